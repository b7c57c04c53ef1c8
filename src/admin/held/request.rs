//! What the cache is asked by way of the admin API: paths and queries read, and written by the client.

use super::super::request::{BadRequest, decode, encode, qname, rtype};
use crate::cache::Selection;
use crate::presentation::type_name;
use crate::wire::name::Shown;

/// Something to be told of the cache, or to be done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheRequest {
    /// Its figures.
    Stats,
    /// All that is held for a name.
    Show {
        /// The name in wire form.
        name: Box<[u8]>,
        /// Of one type.
        rtype: Option<u16>,
    },
    /// Drop what is chosen.
    Flush(Selection),
}

/// Why a request is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCacheRequest {
    /// A name or type is none.
    #[error(transparent)]
    Question(#[from] BadRequest),
    /// No name.
    #[error("name is missing: /api/cache/entries?name=example.com&type=AAAA")]
    NoName,
    /// A parameter that means nothing here.
    #[error("unknown parameter: only name and type are known")]
    Parameter,
    /// A flush of nothing, or of several things.
    #[error("say what to flush: name=NAME, with type=TYPE where only that is meant, or suffix=DOMAIN, or all")]
    What,
}

impl CacheRequest {
    /// Reads the query part of `/api/cache/entries`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn show(query: &str) -> Result<Self, BadCacheRequest> {
        let Parts { name, rtype, suffix, all } = Parts::read(query)?;
        if suffix.is_some() || all {
            return Err(BadCacheRequest::Parameter);
        }
        Ok(Self::Show { name: name.ok_or(BadCacheRequest::NoName)?, rtype })
    }

    /// Reads the query part of `/api/cache/flush`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn flush(query: &str) -> Result<Self, BadCacheRequest> {
        match Parts::read(query)? {
            Parts { name: Some(name), rtype, suffix: None, all: false } => {
                Ok(Self::Flush(Selection::Name { name, rtype }))
            }
            Parts { name: None, rtype: None, suffix: Some(domain), all: false } => {
                Ok(Self::Flush(Selection::Suffix(domain)))
            }
            Parts { name: None, rtype: None, suffix: None, all: true } => Ok(Self::Flush(Selection::All)),
            Parts { .. } => Err(BadCacheRequest::What),
        }
    }

    /// Path and query, as they are asked.
    #[must_use]
    pub fn target(&self) -> String {
        let named = |name: &[u8]| encode(&Shown(name).to_string());
        let typed = |rtype: &Option<u16>| rtype.map(|rtype| format!("&type={}", type_name(rtype))).unwrap_or_default();
        match self {
            Self::Stats => "/api/cache".to_owned(),
            Self::Show { name, rtype } => format!("/api/cache/entries?name={}{}", named(name), typed(rtype)),
            Self::Flush(Selection::Name { name, rtype }) => {
                format!("/api/cache/flush?name={}{}", named(name), typed(rtype))
            }
            Self::Flush(Selection::Suffix(domain)) => format!("/api/cache/flush?suffix={}", named(domain)),
            Self::Flush(Selection::All) => "/api/cache/flush?all".to_owned(),
        }
    }
}

#[derive(Default)]
struct Parts {
    name: Option<Box<[u8]>>,
    rtype: Option<u16>,
    suffix: Option<Box<[u8]>>,
    all: bool,
}

impl Parts {
    fn read(query: &str) -> Result<Self, BadCacheRequest> {
        let mut parts = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match key {
                "name" if parts.name.is_none() => parts.name = Some(qname(&value)?),
                "type" if parts.rtype.is_none() => parts.rtype = Some(rtype(&value).ok_or(BadRequest::Type)?),
                "suffix" if parts.suffix.is_none() => parts.suffix = Some(qname(&value)?),
                "all" if value.is_empty() => parts.all = true,
                "name" | "type" | "suffix" | "all" => return Err(BadCacheRequest::What),
                _ => return Err(BadCacheRequest::Parameter),
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: &str) -> Result<CacheRequest, BadCacheRequest> {
        match target.split_once('?') {
            Some(("/api/cache/entries", query)) => CacheRequest::show(query),
            Some(("/api/cache/flush", query)) => CacheRequest::flush(query),
            _ => Ok(CacheRequest::Stats),
        }
    }

    #[test]
    fn requests_survive_the_way_through_a_url() {
        let name = || qname(r"a\.b%&=\000.Example").unwrap();
        let requests = [
            CacheRequest::Stats,
            CacheRequest::Show { name: name(), rtype: None },
            CacheRequest::Show { name: name(), rtype: Some(65400) },
            CacheRequest::Flush(Selection::Name { name: name(), rtype: Some(28) }),
            CacheRequest::Flush(Selection::Suffix(qname(".").unwrap())),
            CacheRequest::Flush(Selection::All),
        ];
        for request in requests {
            assert_eq!(read(&request.target()), Ok(request));
        }
    }

    #[test]
    fn a_flush_says_exactly_one_thing() {
        for query in [
            "",
            "name=a&suffix=b",
            "name=a&all",
            "suffix=a&all",
            "type=A",
            "suffix=a&type=A",
            "all&type=A",
            "all=no",
            "name=a&name=b",
        ] {
            assert_eq!(CacheRequest::flush(query), Err(BadCacheRequest::What), "{query}");
        }
        assert_eq!(CacheRequest::flush("everything"), Err(BadCacheRequest::Parameter));
        assert_eq!(CacheRequest::flush("suffix="), Err(BadRequest::Name.into()));
        assert_eq!(CacheRequest::show(""), Err(BadCacheRequest::NoName));
        assert_eq!(CacheRequest::show("name=a&all"), Err(BadCacheRequest::Parameter));
        assert_eq!(CacheRequest::show("name=a&type=70000"), Err(BadRequest::Type.into()));
    }
}
