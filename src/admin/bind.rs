//! Opening the admin's sockets: ports known at once, a Unix socket that is never open to others, not even while it is made.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

use super::Place;
use super::entry::{BadToken, Token};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// A token file that is longer is another file.
const MAX_TOKEN_FILE: u64 = 4096;

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// An address cannot be listened on.
    #[error(
        "admin: cannot listen on {address}: {source}. Is another hushgate running? Else choose another admin.listen or admin.probes"
    )]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A Unix socket cannot be made.
    #[error("admin: cannot listen on unix:{}: {source}", path.display())]
    Unix {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process answers there.
    #[error("admin: another process listens on unix:{}: stop it, or choose another admin.listen", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The path is taken by something that is no socket.
    #[error("admin: {} is there and is no socket: choose another admin.listen", path.display())]
    NoSocket {
        /// Which.
        path: PathBuf,
    },
    /// Anyone who reaches the address could read what clients ask.
    #[error(
        "admin: {address} can be reached from other machines: set admin.token_file, or listen on loopback and name this \
         address in admin.probes for health and metrics alone"
    )]
    Exposed {
        /// Which.
        address: SocketAddr,
    },
    /// The token file cannot be read.
    #[error("admin: cannot read admin.token_file {}: {source}", file.display())]
    TokenFile {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no token.
    #[error("admin: admin.token_file {} holds no token: {why}", file.display())]
    Token {
        /// Which.
        file: PathBuf,
        /// Why.
        why: BadToken,
    },
}

/// Who has served until now.
#[derive(Debug)]
pub enum Former {
    /// Nobody who could be asked.
    Nobody,
    /// A process that hands over these; Unix sockets are made anew in the place of its own.
    Process(Vec<Inherited>),
}

impl Former {
    fn take(&mut self, configured: SocketAddr) -> Option<TcpListener> {
        match self {
            Self::Nobody => None,
            Self::Process(inherited) => {
                let place = inherited.iter().position(|one| one.configured == configured)?;
                Some(inherited.remove(place).listener)
            }
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's file, removed when we are done.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl SocketFile {
    fn at(path: &Path) -> Self {
        Self { path: path.into(), inode: inode(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever has taken over may have put a socket of its own there.
        if self.inode == inode(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|file| file.ino())
}

/// A listener that another process has served until now, with the address that is configured there.
#[derive(Debug)]
pub struct Inherited {
    /// As configured: the port may be 0.
    pub configured: SocketAddr,
    /// The socket.
    pub listener: TcpListener,
}

impl Bound {
    pub(super) fn open(place: &Place, former: &mut Former) -> Result<Self, AdminError> {
        match place {
            Place::Address(address) => Self::tcp(*address, former),
            Place::Unix(path) => Self::unix(path, former),
        }
    }

    pub(super) fn tcp(address: SocketAddr, former: &mut Former) -> Result<Self, AdminError> {
        if let Some(listener) = former.take(address) {
            let address = listener.local_addr().map_err(|source| AdminError::Address { address, source })?;
            return Ok(Self::Tcp(listener, address));
        }
        let binding = || -> io::Result<Self> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let listener = TcpListener::from(socket);
            let address = listener.local_addr()?;
            Ok(Self::Tcp(listener, address))
        };
        binding().map_err(|source| AdminError::Address { address, source })
    }

    fn unix(path: &Path, former: &Former) -> Result<Self, AdminError> {
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(AdminError::NoSocket { path: path.into() }),
            Ok(_) if matches!(former, Former::Nobody) && UnixStream::connect(path).is_ok() => {
                return Err(AdminError::InUse { path: path.into() });
            }
            Ok(_) | Err(_) => {}
        }
        let listener = private_socket(path).map_err(|source| AdminError::Unix { path: path.into(), source })?;
        Ok(Self::Unix(listener, SocketFile::at(path)))
    }

    pub(super) fn place(&self) -> Place {
        match self {
            Self::Tcp(_, address) => Place::Address(*address),
            Self::Unix(_, file) => Place::Unix(file.path.clone()),
        }
    }
}

/// Binds in a directory that only we may enter, closes the socket's mode, then moves it to its place.
///
/// # Errors
/// What the file system says.
pub fn private_socket(path: &Path) -> io::Result<UnixListener> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let directory = PathBuf::from(fresh);
    DirBuilder::new().mode(0o700).create(&directory)?;
    let inside = directory.join("s");
    let binding = || {
        let listener = UnixListener::bind(&inside)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    };
    let bound = binding();
    let _ = fs::remove_file(&inside);
    let _ = fs::remove_dir(&directory);
    bound
}

/// The token in `file`.
pub(super) fn read_token(file: &Path) -> Result<Token, AdminError> {
    let mut text = String::new();
    let reading = File::open(file).and_then(|file| file.take(MAX_TOKEN_FILE).read_to_string(&mut text));
    reading.map_err(|source| AdminError::TokenFile { file: file.into(), source })?;
    Token::parse(&text).map_err(|why| AdminError::Token { file: file.into(), why })
}
