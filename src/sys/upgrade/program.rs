//! The program that this process runs, with its arguments and its environment, so that it can be
//! executed again even if its file has been replaced or removed. Executes by descriptor alone.

#![allow(unsafe_code)]

use crate::{
    core::error::{Error, Operation},
    sys::{fd_registry::Registered, upgrade::instruction::VARIABLE},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    sys::stat::{Mode, fstat},
};
use std::{
    env,
    ffi::{CStr, CString, OsStr, OsString},
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::MetadataExt,
        },
    },
    path::{Path, PathBuf},
    ptr,
};

/// Where this process finds its file and its arguments.
const OWN_FILE: &str = "/proc/self/exe";
const OWN_ARGUMENTS: &str = "/proc/self/cmdline";

/// The running program.
#[derive(Debug)]
pub(crate) struct RunningProgram {
    /// Its file, which stays what it is when the path leads to another.
    file: Registered<OwnedFd>,
    /// Its path when it was started: the one by which it was executed, links and all.
    path: PathBuf,
    arguments: Vec<CString>,
    /// The environment that it was started with, without what an upgrade adds.
    environment: Vec<CString>,
}

impl RunningProgram {
    /// Reads it from /proc. The arguments are read early: later the program may have overwritten
    /// them, to change its name in the list of processes.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let failed = |operation, object| move |error| Error::new(operation, object, error);
        let file = open_program(Path::new(OWN_FILE)).map_err(failed(Operation::Open, OWN_FILE))?;
        let path = match executed_as().filter(|path| leads_to(path, &file)) {
            Some(path) => path,
            None => {
                without_mark(fs::read_link(OWN_FILE).map_err(failed(Operation::Read, OWN_FILE))?)
            }
        };
        let arguments = fs::read(OWN_ARGUMENTS).map_err(failed(Operation::Read, OWN_ARGUMENTS))?;
        Ok(Self {
            file: Registered::parents(file),
            path,
            arguments: strings(arguments),
            environment: environment(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The call of a process that is told later which program to execute.
    #[cfg(feature = "holder")]
    pub(crate) fn blank_call(&self) -> PreparedExecveat {
        PreparedExecveat::new(self.arguments.clone(), self.environment.clone())
    }

    /// The call that executes `program` in place of this process, prepared: it allocates nothing.
    pub(crate) fn call(&self, program: RawFd, instruction: &OsStr) -> ExecveatCall {
        let mut environment = self.environment.clone();
        let variable = [VARIABLE.as_bytes(), b"=", instruction.as_bytes()].concat();
        // OK because neither has a zero byte: what is made of a message has none.
        environment.extend(CString::new(variable));
        ExecveatCall::new(program, self.arguments.clone(), environment)
    }
}

/// A call that executes any program in place of this process, with the arguments of the running one: it
/// is not known yet which, and with what instruction. It has all the memory that it needs.
#[cfg(feature = "holder")]
#[derive(Debug)]
pub(crate) struct PreparedExecveat {
    call: ExecveatCall,
    /// The variable with the instruction.
    variable: Box<[u8]>,
}

/// The longest instruction that such a call has room for.
#[cfg(feature = "holder")]
pub(crate) const LONGEST_INSTRUCTION: usize = 4096;

#[cfg(feature = "holder")]
impl PreparedExecveat {
    fn new(arguments: Vec<CString>, environment: Vec<CString>) -> Self {
        let mut call = ExecveatCall::new(-1, arguments, environment);
        // The place of the variable.
        call.envp.push(std::ptr::null());
        let variable = vec![0; VARIABLE.len() + 1 + LONGEST_INSTRUCTION + 1];
        Self {
            call,
            variable: variable.into(),
        }
    }

    /// Returns only if it fails. Allocates nothing.
    pub(crate) fn execute(&mut self, program: RawFd, instruction: &[u8]) -> Errno {
        let text = [VARIABLE.as_bytes(), b"=", instruction];
        let bytes = text.iter().copied().flatten();
        self.variable.fill(0);
        let room = self.variable.len() - 1;
        for (place, byte) in self.variable[..room].iter_mut().zip(bytes) {
            *place = *byte;
        }
        let at = self.call.envp.len() - 2;
        self.call.envp[at] = self.variable.as_ptr().cast();
        self.call.program = program;
        self.call.execute()
    }
}

/// The path by which this process was executed. The one of an exec by descriptor says nothing.
fn executed_as() -> Option<PathBuf> {
    // SAFETY: an integer.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if name == 0 {
        return None;
    }
    // SAFETY: the kernel has put the string there, and it stays as long as the process.
    let name = unsafe { CStr::from_ptr(ptr::with_exposed_provenance(name as usize)) };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    let path = std::path::absolute(path).ok();
    path.filter(|path| !path.starts_with("/dev/fd"))
}

fn leads_to(path: &Path, file: &OwnedFd) -> bool {
    let found = fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let own = fstat(file).map(|own| (own.st_dev, own.st_ino));
    matches!((found, own), (Ok(found), Ok(own)) if found == own)
}

/// The kernel marks the path of a file that was replaced or removed.
fn without_mark(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(place) if !path.exists() => PathBuf::from(OsStr::from_bytes(place)),
        _ => path,
    }
}

/// A descriptor of a program's file, by which it can be executed and not read.
pub(crate) fn open_program(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// The arguments of execveat(2).
#[derive(Debug)]
pub(crate) struct ExecveatCall {
    program: RawFd,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// What the pointers lead to.
    _strings: [Vec<CString>; 2],
}

impl ExecveatCall {
    fn new(program: RawFd, arguments: Vec<CString>, environment: Vec<CString>) -> Self {
        let pointers = |strings: &[CString]| {
            let pointers = strings.iter().map(|string| string.as_ptr());
            pointers.chain([std::ptr::null()]).collect()
        };
        Self {
            program,
            argv: pointers(&arguments),
            envp: pointers(&environment),
            _strings: [arguments, environment],
        }
    }

    /// Returns only if it fails. Async-signal-safe.
    pub(crate) fn execute(&self) -> Errno {
        // SAFETY: both lists are of strings that live as long as `self`, and end with a null pointer.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.program,
                c"".as_ptr(),
                self.argv.as_ptr(),
                self.envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        Errno::last()
    }
}

/// The environment that the program was started with: variables that it has taken out since, such as
/// NOTIFY_SOCKET, are for the next program as well. Where /proc does not show it, the present one.
fn environment() -> Vec<CString> {
    let variables = match fs::read("/proc/self/environ") {
        Ok(bytes) => strings(bytes),
        Err(error) => {
            log::debug!("the environment of the start is not known: {error}");
            env::vars_os().filter_map(assignment).collect()
        }
    };
    let added = |variable: &CString| {
        let name = variable.as_bytes().strip_prefix(VARIABLE.as_bytes());
        name.is_some_and(|rest| rest.first() == Some(&b'='))
    };
    variables
        .into_iter()
        .filter(|variable| !added(variable))
        .collect()
}

fn assignment((name, value): (OsString, OsString)) -> Option<CString> {
    let bytes = [name.into_vec(), value.into_vec()].join(&b'=');
    CString::new(bytes).ok()
}

/// The strings that each end with a zero byte.
fn strings(bytes: Vec<u8>) -> Vec<CString> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let parts = bytes.split(|byte| *byte == 0);
    // OK because no part has a zero byte.
    parts.filter_map(|part| CString::new(part).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_kept_as_they_are() {
        let read = |bytes: &[u8]| strings(bytes.to_vec());
        assert_eq!(read(b""), Vec::<CString>::new());
        assert_eq!(read(b"a\0"), [CString::from(c"a")]);
        assert_eq!(
            read(b"a\0\0-b=\xff\0"),
            [c"a", c"", c"-b=\xff"].map(CString::from)
        );
    }

    #[test]
    fn the_mark_of_a_file_that_is_gone_is_no_part_of_its_path() {
        let bare = |path: &str| without_mark(PathBuf::from(path));
        assert_eq!(bare("/no/such (deleted)"), Path::new("/no/such"));
        assert_eq!(bare("/no/such"), Path::new("/no/such"));
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("odd (deleted)");
        fs::write(&odd, "").unwrap();
        assert_eq!(without_mark(odd.clone()), odd);
    }

    #[test]
    fn the_running_program_is_found_with_its_arguments() {
        let image = RunningProgram::of_this_process().unwrap();
        let real = fs::canonicalize(image.path()).unwrap();
        assert_eq!(real, env::current_exe().unwrap());
        let arguments: Vec<_> = env::args_os().collect();
        let found = image.arguments.iter();
        let found: Vec<_> = found
            .map(|it| OsStr::from_bytes(it.as_bytes()).to_owned())
            .collect();
        assert_eq!(found, arguments);
    }
}
