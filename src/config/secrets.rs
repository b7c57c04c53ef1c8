//! Files of secrets (`cookies.secrets_file`, `fleet.secret_file`): read at the start, and by the control thread again and again, so
//! that a rollover needs no restart (RFC 9018 5).

use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kinds::{self, What};
use super::{Reader, plain_file};
use crate::identity::{Fleet, Secret};

/// More secrets than any rollover has stages.
const MOST: usize = 16;

/// Octets of the file that are read: room for as many secrets and a comment on each.
const LONGEST: u64 = 4096;

/// Keys of server cookies: the first signs, all verify.
pub type Secrets = Vec<[u8; 16]>;

/// Tickets are good for half of it: for six hours where nobody says less (RFC 9250 5.5.3), never for a week (RFC 9325 3.4).
const ROTATE: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(7 * 24);

/// The file, if there is one, and its secrets. None: one is made and rotated.
pub fn read(reader: &mut Reader<'_>) -> (Option<PathBuf>, Secrets) {
    let Some(node) = reader.values.get("cookies.secrets_file") else { return (None, Vec::new()) };
    let read = reader.file(node).and_then(|path| read_file(&path).map(|secrets| (Some(path), secrets)));
    reader.check("cookies.secrets_file", node, |_| read).unwrap_or_default()
}

/// `[fleet]`: the file, if there is one, its secrets, and how long they make keys for.
pub fn read_fleet(reader: &mut Reader<'_>) -> Fleet {
    let rotate = reader.read("fleet.rotate", kinds::duration(ROTATE));
    let Some(node) = reader.values.get("fleet.secret_file") else { return Fleet { rotate, ..Fleet::default() } };
    if let Some(cookies) = reader.values.get("cookies.secrets_file") {
        let what =
            "cookies are made with these secrets, not with those of fleet.secret_file: one file is enough for all";
        reader.findings.warning("cookies.secrets_file", cookies.origin, what);
    }
    let read = reader.file(node).and_then(|path| read_file(&path).map(|secrets| (Some(path), secrets)));
    let (file, secrets) = reader.check("fleet.secret_file", node, |_| read).unwrap_or_default();
    Fleet { file, secrets: secrets.into_iter().map(Secret::new).collect(), rotate }
}

/// Reads the file at `path`: a secret of `N` octets a line, in hex. Empty lines are none, nor are those that begin with `#`.
///
/// # Errors
/// A sentence that says the line, never what stands there.
pub fn read_file<const N: usize>(path: &Path) -> Result<Vec<[u8; N]>, What> {
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
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parse = |(index, line): (usize, &str)| {
        octets(line).ok_or_else(|| format!("{name} line {} must be {} hex digits", index + 1, 2 * N))
    };
    let secrets: Vec<_> = lines.map(parse).collect::<Result<_, _>>()?;
    match secrets.len() {
        0 => Err(format!("{name} holds no secret: it must have a line of {} hex digits", 2 * N)),
        count if count > MOST => Err(format!("{name} holds {count} secrets: at most {MOST}")),
        _ => Ok(secrets),
    }
}

fn octets<const N: usize>(line: &str) -> Option<[u8; N]> {
    let digit = |digit: char| digit.to_digit(16).and_then(|value| u8::try_from(value).ok());
    let digits: Vec<u8> = line.chars().map(digit).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok());
    let octets: Vec<u8> = pairs.map(|[high, low]| high << 4 | low).collect();
    octets.try_into().ok().filter(|_| digits.len() == 2 * N)
}
