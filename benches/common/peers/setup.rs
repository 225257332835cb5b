//! Where each peer is, and how it is configured: a given number of processes, no access log, the
//! same small answer. Writes only into the directory that it is given.

mod installed;

use self::installed::{apache_modules, find, find_net_server, find_php, find_plack, somebody};
use super::{super::wire::BODY, Peer, Pool, Setup};
use nix::unistd::{Group, Uid, User};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// All of them, the fast ones first.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "nginx",
        how: "`return 200`, one event loop a process",
        most: 1000,
        elastic: false,
        find: || find(&["nginx"]).map(|program| vec![program]),
        prepare: nginx,
    },
    Peer {
        name: "apache",
        how: "prefork MPM, a file of 26 bytes",
        most: 1000,
        elastic: true,
        find: || Ok(vec![find(&["apache2", "httpd"])?, apache_modules()?]),
        prepare: apache,
    },
    Peer {
        name: "php-fpm",
        how: "`pm = static`, behind nginx (2 processes) on a UNIX socket, a script of an `echo`",
        most: 1000,
        elastic: false,
        find: || Ok(vec![find_php()?, find(&["nginx"])?]),
        prepare: php,
    },
    Peer {
        name: "uwsgi",
        how: "`http-socket`, a Python function",
        most: 200,
        elastic: false,
        find: || find(&["uwsgi", "uwsgi-core"]).map(|program| vec![program]),
        prepare: uwsgi,
    },
    Peer {
        name: "gunicorn",
        how: "sync workers, a Python function",
        most: 200,
        elastic: false,
        find: || find(&["gunicorn", "gunicorn3"]).map(|program| vec![program]),
        prepare: gunicorn,
    },
    Peer {
        name: "ours-wsgi",
        how: "`ExecServer` with `examples/languages/wsgi.py`, a Python function",
        most: 200,
        elastic: false,
        find: || {
            Ok(vec![
                env::current_exe().map_err(|error| error.to_string())?,
                find(&["python3"])?,
            ])
        },
        prepare: ours_wsgi,
    },
    Peer {
        name: "starman",
        how: "a PSGI function",
        most: 200,
        elastic: false,
        find: || find(&["starman"]).map(|program| vec![program]),
        prepare: starman,
    },
    Peer {
        name: "ours-psgi",
        how: "`ExecServer` with `examples/languages/psgi.pl`, a PSGI function",
        most: 200,
        elastic: false,
        find: find_plack,
        prepare: ours_psgi,
    },
    Peer {
        name: "net-server",
        how: "Net::Server::PreFork, a loop over the lines of the request",
        most: 200,
        elastic: true,
        find: find_net_server,
        prepare: net_server,
    },
];

// ---- How they are configured ----

impl Setup<'_> {
    fn children(&self) -> usize {
        self.pool.to_begin_with()
    }

    /// The fewest and the most idle children to keep, and the most of all.
    fn bounds(&self) -> [usize; 3] {
        match self.pool {
            Pool::Fixed(children) => [children, children + 1, children],
            Pool::Elastic { idle, most } => [idle, 2 * idle, most],
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("write a configuration");
        path.display().to_string()
    }

    fn program(&self, number: usize) -> String {
        self.programs[number].display().to_string()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The text of an answer as a string of the peers' languages.
fn text() -> String {
    BODY.replace('\n', "\\n")
}

fn nginx(setup: &Setup<'_>) -> Vec<Vec<String>> {
    let location = format!("return 200 \"{}\";", text());
    vec![nginx_line(setup, 0, setup.children(), &location)]
}

fn nginx_line(setup: &Setup<'_>, program: usize, workers: usize, location: &str) -> Vec<String> {
    let user = somebody().map_or(String::new(), |(user, group)| {
        format!("user {user} {group};")
    });
    let (port, error_log) = (setup.port, setup.path("nginx-error.log"));
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {};\n", setup.path(kind)))
        .concat();
    let conf = setup.write(
        "nginx.conf",
        &format!(
            "{user}
daemon off;
worker_processes {workers};
pid {pid};
error_log {error_log};
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    default_type text/plain;
{temporary}    server {{
        listen 127.0.0.1:{port} backlog={backlog};
        location / {{ {location} }}
    }}
}}
",
            pid = setup.path("nginx.pid"),
            backlog = setup.task.backlog,
        ),
    );
    words(&[&setup.program(program), "-e", &error_log, "-c", &conf])
}

fn apache(setup: &Setup<'_>) -> Vec<Vec<String>> {
    let user = somebody().map_or(String::new(), |(user, group)| {
        format!("User {user}\nGroup {group}")
    });
    // A file cannot sleep.
    let (script, modules) = match setup.task.work {
        Duration::ZERO => (String::new(), &["mpm_prefork", "authz_core", "unixd"][..]),
        work => (
            lua_script(setup, work),
            &["mpm_prefork", "authz_core", "unixd", "lua"][..],
        ),
    };
    let modules: String = modules
        .iter()
        // Whatever is not a file has been built in.
        .map(|name| (name, setup.programs[1].join(format!("mod_{name}.so"))))
        .filter(|(_, path)| path.is_file())
        .map(|(name, path)| format!("LoadModule {name}_module {}\n", path.display()))
        .collect();
    let root = setup.directory.join("htdocs");
    fs::create_dir(&root).expect("a directory");
    fs::write(root.join("index.txt"), BODY).expect("write the file");
    let (directory, port, children) = (setup.directory.display(), setup.port, setup.children());
    let [fewest, enough, most] = setup.bounds();
    let conf = setup.write(
        "apache.conf",
        &format!(
            "ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
ErrorLog {directory}/apache-error.log
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
ListenBacklog {backlog}
{modules}{user}
DocumentRoot {root}
<Directory {root}>
    AllowOverride None
    Require all granted
</Directory>
KeepAlive On
KeepAliveTimeout 100
MaxKeepAliveRequests 0
ServerLimit {most}
MaxRequestWorkers {most}
StartServers {children}
MinSpareServers {fewest}
MaxSpareServers {enough}
MaxConnectionsPerChild 0
{script}",
            backlog = setup.task.backlog,
            root = root.display(),
        ),
    );
    vec![words(&[&setup.program(0), "-f", &conf, "-DFOREGROUND"])]
}

/// The line that has Apache run a script of Lua for each request.
fn lua_script(setup: &Setup<'_>, work: Duration) -> String {
    let text = format!(
        "function handle(r)
    r.content_type = \"text/plain\"
    r.usleep({})
    r:puts(\"{}\")
    return apache2.OK
end
",
        work.as_micros(),
        text()
    );
    let path = setup.write("answer.lua", &text);
    format!("LuaMapHandler ^/ {path} handle\n")
}

fn php(setup: &Setup<'_>) -> Vec<Vec<String>> {
    let user = somebody().map_or(String::new(), |(user, group)| {
        format!("user = {user}\ngroup = {group}")
    });
    let script = format!(
        "<?php header('Content-Type: text/plain'); header('Content-Length: {}'); \
         usleep({}); echo \"{}\";\n",
        BODY.len(),
        setup.task.work.as_micros(),
        text()
    );
    let script = setup.write("index.php", &script);
    let socket = setup.path("php.socket");
    let conf = setup.write(
        "php-fpm.conf",
        &format!(
            "[global]
daemonize = no
pid = {pid}
error_log = {error_log}
[www]
{user}
listen = {socket}
listen.mode = 0666
listen.backlog = {backlog}
pm = static
pm.max_children = {children}
",
            pid = setup.path("php.pid"),
            error_log = setup.path("output.log"),
            children = setup.children(),
            backlog = setup.task.backlog,
        ),
    );
    let location = format!(
        "fastcgi_pass unix:{socket};
            fastcgi_param SCRIPT_FILENAME {script};
            fastcgi_param SCRIPT_NAME /index.php;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param SERVER_PROTOCOL $server_protocol;"
    );
    vec![
        nginx_line(setup, 1, 2, &location),
        words(&[&setup.program(0), "--nodaemonize", "--fpm-config", &conf]),
    ]
}

fn python_app(setup: &Setup<'_>) {
    let app = format!(
        "import time
def application(environ, start_response):
    time.sleep({}) if {0} else None
    start_response(\"200 OK\", [(\"Content-Type\", \"text/plain\"), (\"Content-Length\", \"{}\")])
    return [b\"{}\"]
",
        setup.task.work.as_secs_f64(),
        BODY.len(),
        text()
    );
    setup.write("small.py", &app);
}

fn uwsgi(setup: &Setup<'_>) -> Vec<Vec<String>> {
    python_app(setup);
    let socket = format!("127.0.0.1:{}", setup.port);
    let children = setup.children().to_string();
    let backlog = setup.task.backlog.to_string();
    let mut line = words(&[&setup.program(0), "--http-socket", &socket]);
    // Where it is a plugin; elsewhere it is built in, and has no such file to name.
    if Path::new("/usr/lib/uwsgi/plugins/python3_plugin.so").is_file() {
        line.extend(words(&["--plugin", "python3"]));
    }
    line.extend(words(&[
        "--wsgi-file",
        "small.py",
        "--need-app",
        "--master",
    ]));
    line.extend(words(&["--processes", &children, "--listen", &backlog]));
    line.extend(words(&["--disable-logging", "--die-on-term"]));
    if let Some((user, group)) = somebody() {
        line.extend(words(&["--uid", &user, "--gid", &group]));
    }
    vec![line]
}

fn gunicorn(setup: &Setup<'_>) -> Vec<Vec<String>> {
    python_app(setup);
    let socket = format!("127.0.0.1:{}", setup.port);
    let children = setup.children().to_string();
    let backlog = setup.task.backlog.to_string();
    let mut line = words(&[&setup.program(0), "--bind", &socket, "--workers", &children]);
    line.extend(words(&["--worker-class", "sync", "--backlog", &backlog]));
    line.extend(words(&["--log-level", "warning"]));
    if let Some((user, group)) = somebody() {
        line.extend(words(&["--user", &user, "--group", &group]));
    }
    line.push("small:application".to_owned());
    vec![line]
}

fn psgi_app(setup: &Setup<'_>) -> String {
    let app = format!(
        "sub {{ select undef, undef, undef, {} if {0}; [200, ['Content-Type' => 'text/plain', 'Content-Length' => {}], [\"{}\"]] }}\n",
        setup.task.work.as_secs_f64(),
        BODY.len(),
        text()
    );
    setup.write("small.psgi", &app)
}

/// This program in the role of the parent, and what each child is to run.
fn ours(setup: &Setup<'_>, helper: &str, application: &str) -> Vec<Vec<String>> {
    let helper = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/languages")
        .join(helper);
    let (port, children) = (setup.port.to_string(), setup.children().to_string());
    let mut line = words(&[&setup.program(0), "--role", "programs", &port, &children]);
    line.extend(words(&[&setup.program(1), &helper.display().to_string()]));
    line.extend(words(&["--max-requests", "0", application]));
    vec![line]
}

fn ours_wsgi(setup: &Setup<'_>) -> Vec<Vec<String>> {
    python_app(setup);
    ours(setup, "wsgi.py", "small:application")
}

fn ours_psgi(setup: &Setup<'_>) -> Vec<Vec<String>> {
    let app = psgi_app(setup);
    ours(setup, "psgi.pl", &app)
}

fn starman(setup: &Setup<'_>) -> Vec<Vec<String>> {
    let app = psgi_app(setup);
    let (port, children) = (setup.port.to_string(), setup.children().to_string());
    let backlog = setup.task.backlog.to_string();
    let mut line = words(&[&setup.program(0), "--host", "127.0.0.1", "--port", &port]);
    line.extend(words(&["--workers", &children, "--backlog", &backlog]));
    line.extend(words(&["--max-requests", "1000000000", "-E", "deployment"]));
    if let Some((user, group)) = somebody() {
        line.extend(words(&["--user", &user, "--group", &group]));
    }
    line.push(app);
    vec![line]
}

fn net_server(setup: &Setup<'_>) -> Vec<Vec<String>> {
    let user = somebody().map_or(String::new(), |(user, group)| {
        format!("user => '{user}', group => '{group}', ")
    });
    let children = setup.children();
    // It wants room: fewer idle ones than all, and none that are wanted of a pool that is fixed.
    let [fewest, max_spare, max_servers] = match setup.pool {
        Pool::Fixed(children) => [0, children + 1, children + 2],
        Pool::Elastic { .. } => setup.bounds(),
    };
    let script = setup.write(
        "small.pl",
        &format!(
            r#"package Small;
use strict;
use warnings;
use base 'Net::Server::PreFork';

sub process_request {{
    my $body = "{body}";
    my $last = 0;
    until ($last) {{
        my $lines = 0;
        while (defined(my $line = <STDIN>)) {{
            $lines++;
            $last = 1 if $line =~ /^connection: close/i;
            last if $line eq "\r\n";
        }}
        return if !$lines;
        select undef, undef, undef, {work} if {work};
        my $close = $last ? "Connection: close\r\n" : "";
        print "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
            . length($body) . "\r\n$close\r\n$body";
    }}
}}

Small->run(
    {user}host => '127.0.0.1', port => {port}, proto => 'tcp', ipv => 4, listen => {backlog},
    min_servers => {children}, max_servers => {max_servers}, min_spare_servers => {fewest},
    max_spare_servers => {max_spare}, max_requests => 1_000_000_000, log_level => 1,
);
"#,
            body = text(),
            port = setup.port,
            work = setup.task.work.as_secs_f64(),
            backlog = setup.task.backlog,
        ),
    );
    vec![words(&[&setup.program(0), &script])]
}
