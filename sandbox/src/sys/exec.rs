//! execve(2) with everything prepared before the clone: the child only walks arrays.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;

use crate::spec::Program;

/// Program candidates, arguments and environment as C arrays that own their strings.
pub(crate) struct ExecImage {
    candidates: Vec<CString>,
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

impl ExecImage {
    /// Prepares `program`; allocates, so it is called before the clone. `None` where a string has a NUL byte or
    /// there is no argument.
    pub(crate) fn new(program: &Program) -> Option<Self> {
        let name = program.argv.first()?;
        let mut candidates = Vec::new();
        if name.as_bytes().contains(&b'/') {
            candidates.push(CString::new(name.as_bytes()).ok()?);
        } else {
            let path = program.env.iter().find(|(k, _)| k == "PATH").map(|(_, v)| v.as_os_str());
            for dir in path?.as_bytes().split(|b| *b == b':').filter(|d| d.first() == Some(&b'/')) {
                let full = Path::new(std::ffi::OsStr::from_bytes(dir)).join(name);
                candidates.push(CString::new(full.into_os_string().into_vec()).ok()?);
            }
        }
        let mut strings = Vec::with_capacity(program.argv.len() + program.env.len());
        for arg in &program.argv {
            strings.push(CString::new(arg.as_bytes()).ok()?);
        }
        for (key, value) in &program.env {
            let mut pair = key.as_bytes().to_vec();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            strings.push(CString::new(pair).ok()?);
        }
        let mut argv: Vec<_> = strings[..program.argv.len()].iter().map(|s| s.as_ptr()).collect();
        argv.push(std::ptr::null());
        let mut envp: Vec<_> = strings[program.argv.len()..].iter().map(|s| s.as_ptr()).collect();
        envp.push(std::ptr::null());
        Some(Self { candidates, _strings: strings, argv, envp })
    }

    /// Executes the first candidate that the kernel accepts; returns only on failure, with the error execvp(3)
    /// would give: EACCES where one was found and refused, else the last.
    pub(crate) fn exec(&self) -> Result<Infallible, Errno> {
        let mut last = Errno::ENOENT;
        for candidate in &self.candidates {
            match self.exec_one(candidate) {
                Ok(never) => match never {},
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(Errno::EACCES) => last = Errno::EACCES,
                Err(errno) => return Err(errno),
            }
        }
        Err(last)
    }

    fn exec_one(&self, path: &CStr) -> Result<Infallible, Errno> {
        // SAFETY: path is NUL-terminated; argv and envp are NULL-terminated arrays of pointers into `_strings`,
        // which `self` owns and never changes. execve returns only on error.
        unsafe { libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        Err(Errno::last())
    }
}
