//! What may be wished of a certificate that can be used: for `check`, before clients or the calendar say it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::Chain;
use super::credential::{Credential, DAY, unix};

/// Something to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Concern {
    /// It ends soon.
    #[error("the certificate in {} ends in {days} day(s), and is to be renewed by now", file.display())]
    EndsSoon {
        /// The chain.
        file: PathBuf,
        /// Whole days until then.
        days: i64,
    },
    /// The server's own certificate stands alone, and another has signed it.
    #[error(
        "{} holds the server's certificate alone: most clients need its issuer's too; use the file with the whole chain",
        file.display()
    )]
    NoIssuer {
        /// The chain.
        file: PathBuf,
    },
    /// A certificate is not followed by its issuer's.
    #[error(
        "certificate {number} in {} was not signed by the one after it: put each before its issuer, the server's own first",
        file.display()
    )]
    OutOfOrder {
        /// The chain.
        file: PathBuf,
        /// Which, counted from 1.
        number: usize,
    },
    /// Everybody on this machine may use the key.
    #[error("the key in {} may be read or written by every user of this machine: take that right away (chmod o-rwx)", file.display())]
    OpenKey {
        /// The key.
        file: PathBuf,
    },
}

/// What may be wished of `credential`, read from `files`, at `now`.
#[must_use]
pub fn review(credential: &Credential, files: &Chain, now: SystemTime) -> Vec<Concern> {
    let file = files.chain.clone();
    let (life, left) = (credential.not_after - credential.not_before, credential.not_after - unix(now));
    // A third of a short life, as who renews by program does.
    let ends =
        (left < (life / 3).min(SOON)).then(|| Concern::EndsSoon { file: file.clone(), days: left.div_euclid(DAY) });
    let open = is_open_to_all(&files.key).then(|| Concern::OpenKey { file: files.key.clone() });
    ends.into_iter().chain(order(&credential.certified.cert, &file)).chain(open).collect()
}

/// The first certificate that its issuer's does not follow. The root may be left out: who trusts it has it.
fn order(chain: &[CertificateDer<'_>], file: &Path) -> Option<Concern> {
    let parsed = chain.iter().map_while(|one| x509_parser::parse_x509_certificate(one).ok().map(|(_, parsed)| parsed));
    let parsed: Vec<_> = parsed.collect();
    if let [leaf] = parsed.as_slice() {
        let is_signed_by_another = leaf.issuer().as_raw() != leaf.subject().as_raw();
        return is_signed_by_another.then(|| Concern::NoIssuer { file: file.into() });
    }
    let wrong = parsed
        .iter()
        .zip(parsed.iter().skip(1))
        .position(|(one, next)| one.issuer().as_raw() != next.subject().as_raw());
    wrong.map(|index| Concern::OutOfOrder { file: file.into(), number: index + 1 })
}

/// May every user of this machine read or change it?
#[must_use]
pub fn is_open_to_all(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// Time to worry, in seconds.
const SOON: i64 = 21 * DAY;

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::identity::profile::provider;
    use crate::identity::scratch::Scratch;

    fn named(name: &str, (before, days): (i64, i64)) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["dns.example".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(before);
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days) + time::Duration::hours(1);
        params
    }

    #[test]
    fn what_may_be_wished_of_a_certificate_is_told() {
        let scratch = Scratch::new();
        let [root_key, middle_key, key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let mut root = named("root", (70, 900));
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let middle =
            named("middle", (70, 900)).signed_by(&middle_key, &Issuer::from_params(&root, &root_key)).unwrap().pem();
        let leaf = |life: (i64, i64)| {
            let issuer = named("middle", (70, 900));
            named("leaf", life).signed_by(&key, &Issuer::from_params(&issuer, &middle_key)).unwrap().pem()
        };
        let root = root.self_signed(&root_key).unwrap().pem();
        let file = scratch.write("key.pem", key.serialize_pem());
        let concerns = |chain: &[&str], mode: u32| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let files = Chain { chain: scratch.write("chain.pem", chain.concat()), key: file.clone() };
            let now = SystemTime::now();
            let credential = Credential::from_files(&files, &provider(), now).unwrap();
            review(&credential, &files, now).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in
            [&[leaf((70, 90)).as_str(), &middle][..], &[&leaf((70, 90)), &middle, &root], &[&leaf((1, 5)), &middle]]
        {
            assert!(concerns(good, 0o640).is_empty());
        }
        for (chain, mode, said) in [
            (&[leaf((70, 20)).as_str(), &middle][..], 0o600, "ends in 20 day(s)"),
            (&[&leaf((1, 0)), &middle], 0o600, "ends in 0 day(s)"),
            (&[&leaf((70, 90))], 0o600, "the server's certificate alone"),
            (&[&leaf((70, 90)), &root, &middle], 0o600, "certificate 1 in"),
            (&[&leaf((70, 90)), &middle], 0o644, "every user of this machine"),
        ] {
            let found = concerns(chain, mode);
            assert!(found.len() == 1 && found[0].contains(said), "{said}: {found:?}");
        }
    }
}
