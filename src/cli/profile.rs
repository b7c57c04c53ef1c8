//! `hushgate profile DEVICE`: what a person installs or types so that a device asks this gateway, and what cannot work.
//!
//! What is to be installed goes to standard output where it is a file of its own, so that it can be redirected; the rest beside it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value as Json, json};

use super::paint::Paint;
use crate::config::{Config, Source, load};
use crate::discovery::profile::{Device, Guide, Unfit, guide};
use crate::discovery::qr::Code;
use crate::discovery::{self, Inputs, Protocol, Resolver};
use crate::gateway::outside;
use crate::identity::IdentityError;
use crate::identity::credential::Credential;
use crate::identity::profile::provider;

mod text;

const EXAMPLES: &str = "\
Examples:
  hushgate profile apple -c hushgate.toml -o hushgate.mobileconfig
  hushgate profile android -c hushgate.toml --qr      a code for the phone to scan
  hushgate profile systemd -c hushgate.toml -o hushgate.conf
  hushgate profile dnr -c hushgate.toml               options for DHCP and router advertisements

Exit status: 0 it was printed; 1 it would not work, and what to set; 2 a mistake in the
configuration or the arguments.";

/// Which device, of which gateway, and how to say it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What asks
    #[arg(value_name = "DEVICE", value_enum)]
    pub device: Named,
    /// The gateway's configuration file; without one the defaults hold
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Override one key, as in --set upstream.timeout=2s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The protocol to ask over, where the device speaks several
    #[arg(long, value_name = "DOOR", value_enum)]
    pub door: Option<Spoken>,
    /// Print a QR code for a phone: Apple's profile on the set-up page, Android's host name
    #[arg(long, conflicts_with_all = ["json", "output"])]
    pub qr: bool,
    /// Print values, steps and files as JSON
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// Write the file to install here; of several, the first
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// A device, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Named {
    /// iPhone, iPad, Mac: a configuration profile
    Apple,
    /// The host name for Private DNS
    Android,
    /// Commands for an administrator
    Windows,
    /// URL and policies.json
    Firefox,
    /// Chrome, Edge, Chromium: template and policy
    Chrome,
    /// A drop-in for systemd-resolved
    Systemd,
    /// DHCP and router advertisements: options in hexadecimal and lines for known servers
    Dnr,
}

/// A protocol, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spoken {
    /// DNS over TLS
    Dot,
    /// DNS over HTTPS
    Doh,
    /// DNS over QUIC
    Doq,
}

/// Why nothing was printed, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It would not work.
    #[error("{why}{}", lines(problems))]
    Unfit {
        /// What the device misses.
        why: Unfit,
        /// What keeps clients from the doors, which may be why.
        problems: Vec<String>,
    },
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// Devices are to trust an authority that does not exist yet.
    #[error(
        "the private authority has not been made in {}, or may not be read: start the gateway once (`hushgate serve`), and run this as its user",
        .0.display()
    )]
    NoAuthority(PathBuf),
    /// A code for nobody.
    #[error("{0} takes no QR code: it is set up as told without --qr")]
    NoCode(&'static str),
    /// The code would lead nowhere.
    #[error(
        "the QR code leads to the set-up page, and `doh.setup_page` is false: write the profile to a file \
         (--output hushgate.mobileconfig) and send it by AirDrop or mail, or switch the page on"
    )]
    NoPage,
    /// There is no file.
    #[error("{0} has no file to install: its values are typed, see the same without --output")]
    NoFile(&'static str),
    /// The file cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What goes where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    output: String,
    beside: String,
}

/// Prints; returns the exit status.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let loaded = load(&Source::with_environment(args.config.clone(), args.set.clone()));
    let mut beside = loaded.problems.iter().map(|problem| format!("{problem}\n")).collect::<Vec<_>>().concat();
    let (output, code) = match loaded.config.as_ref().map(|config| tell(args, config)) {
        None => (String::new(), 2),
        Some(Ok(told)) => {
            beside += &told.beside;
            (told.output, 0)
        }
        Some(Err(error)) => {
            beside.extend([format!("hushgate profile: {error}\n")]);
            (String::new(), 1)
        }
    };
    // Whoever reads may have heard enough and gone: the exit status still tells.
    let _ = std::io::stderr().write_all(beside.as_bytes());
    let _ = std::io::stdout().write_all(output.as_bytes());
    code
}

fn tell(args: &Args, config: &Config) -> Result<Told, ProfileError> {
    let inputs = inputs(config)?;
    let resolver = Resolver::describe(&inputs);
    let device = args.device.device();
    let problems: Vec<String> = discovery::problems(&inputs).iter().map(ToString::to_string).collect();
    let guide = match guide(device, &resolver, args.door.map(Spoken::protocol)) {
        Ok(guide) => guide,
        Err(why) => return Err(ProfileError::Unfit { why, problems }),
    };
    let warnings = || problems.iter().map(|problem| format!("warning: {problem}\n")).collect::<Vec<_>>().concat();
    let title = device.title();
    let told = text::told(title, &guide, Paint::for_output());
    if args.json {
        return Ok(Told { output: format!("{:#}\n", to_json(args.device, &guide, &problems)), beside: String::new() });
    }
    if args.qr {
        return code(device, &guide, config).map(|output| Told { output, beside: warnings() });
    }
    if let Some(path) = &args.output {
        let file = guide.files.first().ok_or(ProfileError::NoFile(title))?;
        write(path, &file.text)?;
        return Ok(Told { output: format!("{told}\nWritten to {}.\n", shown(path)), beside: warnings() });
    }
    match (device, guide.files.first()) {
        // A profile is a file as it stands, to be redirected or sent.
        (Device::Apple, Some(file)) => {
            let told = text::told(title, &guide, Paint::Plain);
            Ok(Told { output: file.text.clone(), beside: format!("{told}\n{}", warnings()) })
        }
        _ => Ok(Told { output: told + &text::files(&guide), beside: warnings() }),
    }
}

/// Each problem on a line after another.
fn lines(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\nwarning: {problem}")).collect::<Vec<_>>().concat()
}

fn code(device: Device, guide: &Guide, config: &Config) -> Result<String, ProfileError> {
    let title = device.title();
    if device == Device::Apple && !config.listen.setup_page {
        return Err(ProfileError::NoPage);
    }
    let scan = guide.scan.as_ref().ok_or(ProfileError::NoCode(title))?;
    let code = Code::of(scan).ok_or(ProfileError::NoCode(title))?;
    Ok(text::code(&code, scan, Paint::for_output()))
}

/// What is known without a running gateway: its configuration, and the certificates that it names.
fn inputs(config: &Config) -> Result<Inputs, ProfileError> {
    let now = SystemTime::now();
    let first = config.tls.certificates.first();
    let facts = first.map(|files| Credential::from_files(files, &provider(), now)).transpose()?;
    let facts = facts.map(|credential| credential.facts(now, true));
    let inputs = outside::configured(config, facts.as_ref().map(|facts| facts.names.as_slice()));
    if first.is_none() && inputs.authority.is_none() {
        return Err(ProfileError::NoAuthority(config.tls.state_dir.clone()));
    }
    Ok(inputs)
}

fn write(path: &Path, text: &str) -> Result<(), ProfileError> {
    std::fs::write(path, text).map_err(|source| ProfileError::Write { file: path.into(), source })
}

/// A path of the operator's choice, for a terminal.
fn shown(path: &Path) -> String {
    path.display().to_string().replace(char::is_control, "?")
}

fn to_json(device: Named, guide: &Guide, problems: &[String]) -> Json {
    let values: Map<String, Json> = guide.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let files = guide.files.iter();
    let files = files.map(|file| json!({ "name": file.name, "media_type": file.media_type, "text": file.text }));
    json!({
        "device": clap::ValueEnum::to_possible_value(&device).map(|value| value.get_name().to_owned()),
        "headline": guide.headline,
        "values": values,
        "steps": guide.steps,
        "files": files.collect::<Vec<_>>(),
        "limits": guide.limits,
        "qr": guide.scan,
        "warnings": problems,
    })
}

impl Named {
    const fn device(self) -> Device {
        match self {
            Self::Apple => Device::Apple,
            Self::Android => Device::Android,
            Self::Windows => Device::Windows,
            Self::Firefox => Device::Firefox,
            Self::Chrome => Device::Chrome,
            Self::Systemd => Device::Systemd,
            Self::Dnr => Device::Dnr,
        }
    }
}

impl Spoken {
    const fn protocol(self) -> Protocol {
        match self {
            Self::Dot => Protocol::Dot,
            Self::Doh => Protocol::Doh,
            Self::Doq => Protocol::Doq,
        }
    }
}
