//! The file of cookie secrets (`cookies.secrets_file`): read at the start, and by the control thread again and again, so that a
//! rollover needs no restart (RFC 9018 5).

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::kinds::What;
use super::{Reader, plain_file};

/// More secrets than any rollover has stages.
const MOST: usize = 16;

/// Octets of the file that are read: room for as many secrets and their line ends, twice over.
const LONGEST: u64 = 2048;

/// Keys of server cookies: the first signs, all verify.
pub type Secrets = Vec<[u8; 16]>;

/// The file, if there is one, and its secrets. None: one is made and rotated.
pub fn read(reader: &mut Reader<'_>) -> (Option<PathBuf>, Secrets) {
    let Some(node) = reader.values.get("cookies.secrets_file") else { return (None, Vec::new()) };
    let read = reader.file(node).and_then(|path| read_file(&path).map(|secrets| (Some(path), secrets)));
    reader.check("cookies.secrets_file", node, |_| read).unwrap_or_default()
}

/// Reads the file at `path`.
///
/// # Errors
/// A sentence that says the line, never what stands there.
pub fn read_file(path: &Path) -> Result<Secrets, What> {
    let name = path.display();
    let mut text = String::new();
    let read = plain_file::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    match read {
        Err(error) => return Err(format!("{name} cannot be read: {error}")),
        Ok(length) if u64::try_from(length).is_ok_and(|length| length > LONGEST) => {
            return Err(format!("{name} is longer than {LONGEST} octets"));
        }
        Ok(_) => {}
    }
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let parse = |(index, line): (usize, &str)| {
        let digits = line.len() == 32 && line.bytes().all(|octet| octet.is_ascii_hexdigit());
        let number = u128::from_str_radix(line, 16).ok().filter(|_| digits);
        number.map(u128::to_be_bytes).ok_or_else(|| format!("{name} line {} must be 32 hex digits", index + 1))
    };
    let secrets: Secrets = lines.map(parse).collect::<Result<_, _>>()?;
    match secrets.len() {
        0 => Err(format!("{name} holds no secret: it must have a line of 32 hex digits")),
        count if count > MOST => Err(format!("{name} holds {count} secrets: at most {MOST}")),
        _ => Ok(secrets),
    }
}
