//! The files that a configuration names, certificates and keys among them: opened only if they are plain files. To open or read a named pipe could wait for ever, and a
//! device has no end or acts when it is touched; both at the start and while the gateway runs, whatever stands there by then.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Opens the file at `path` to read it, without waiting for anybody.
///
/// # Errors
/// It cannot be opened, or is something else.
pub fn open(path: &Path) -> io::Result<File> {
    // What a path leads to can change between a look and an opening: the look is at what has been opened.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    let other = |what| Err(io::Error::new(ErrorKind::InvalidInput, what));
    match kind {
        kind if kind.is_file() => Ok(file),
        kind if kind.is_dir() => Err(Errno::EISDIR.into()),
        kind if kind.is_fifo() => other("it is a named pipe, and must be a plain file"),
        _ => other("it is a device, and must be a plain file"),
    }
}
