//! Where the programs of other servers are on this machine, and as whom they run. Starts none.

use super::*;

fn directories() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).collect()
}

pub(super) fn find(names: &[&str]) -> Result<PathBuf, String> {
    let found = directories().into_iter().find_map(|directory| {
        let mut paths = names.iter().map(|name| directory.join(name));
        paths.find(|path| path.is_file())
    });
    found.ok_or_else(|| format!("no {}", names[0]))
}

/// The name has the version in it on some systems.
pub(super) fn find_php() -> Result<PathBuf, String> {
    let files = directories()
        .into_iter()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let mut found = files.flatten().flatten().map(|file| file.path());
    let is_php = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("php-fpm") && path.is_file()
    };
    found.find(is_php).ok_or_else(|| "no php-fpm".to_owned())
}

pub(super) fn apache_modules() -> Result<PathBuf, String> {
    let places = [
        "/usr/lib/apache2/modules",
        "/usr/lib64/httpd/modules",
        "/usr/lib/httpd/modules",
        "/usr/lib/apache2",
    ];
    let mut paths = places.iter().map(PathBuf::from);
    let found = paths.find(|path| path.join("mod_mpm_prefork.so").is_file());
    found.ok_or_else(|| "no prefork MPM".to_owned())
}

pub(super) fn find_net_server() -> Result<Vec<PathBuf>, String> {
    perl_with("Net::Server::PreFork").map(|perl| vec![perl])
}

pub(super) fn find_plack() -> Result<Vec<PathBuf>, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    Ok(vec![own, perl_with("Plack")?])
}

fn perl_with(module: &str) -> Result<PathBuf, String> {
    let perl = find(&["perl"])?;
    let has = Command::new(&perl)
        .args([&format!("-M{module}"), "-e", "1"])
        .stderr(Stdio::null())
        .status();
    match has {
        Ok(status) if status.success() => Ok(perl),
        _ => Err(format!("no {module}")),
    }
}

/// The user and group that they run as; `None` if there is no choice.
pub(super) fn somebody() -> Option<(String, String)> {
    if !Uid::effective().is_root() {
        return None;
    }
    let user = ["www-data", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten())?;
    let group = Group::from_gid(user.gid).ok().flatten()?;
    Some((user.name, group.name))
}
