//! Which form a client takes, by its `accept` (RFC 9110 12.5.1).

use std::cmp::Reverse;

use http::HeaderMap;
use http::header::ACCEPT;

use super::Media;

/// The form whose media type `name` is.
pub fn named(name: &str) -> Option<Media> {
    let essence = name.split(';').next().unwrap_or_default().trim();
    Media::ALL.into_iter().find(|media| media.name().eq_ignore_ascii_case(essence))
}

/// The form that the client likes best: by weight, then by how exactly it is named, then in our order. `None` where it takes none.
pub fn chosen(headers: &HeaderMap) -> Option<Media> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<Range<'_>> = values.flat_map(|value| value.split(',')).filter_map(Range::read).collect();
    if ranges.is_empty() {
        return Some(Media::DnsJson);
    }
    let liked = |media: Media| {
        let best = ranges.iter().filter_map(|range| Some((range.exactness(media)?, range.weight))).max();
        best.map(|(exactness, weight)| (weight, exactness)).filter(|&(weight, _)| weight > 0)
    };
    let ranked = (0_u8..).zip(Media::ALL).filter_map(|(place, media)| Some((liked(media)?, Reverse(place), media)));
    ranked.max_by_key(|&(liked, place, _)| (liked, place)).map(|(_, _, media)| media)
}

/// A media range and its weight, in thousandths.
struct Range<'a> {
    essence: &'a str,
    weight: u16,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().filter(|essence| !essence.is_empty())?;
        let mut weights =
            parts.filter_map(|part| part.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("q")));
        Some(Self { essence, weight: weights.next().map_or(1000, |(_, value)| thousandths(value)) })
    }

    /// How exactly `media` is named; `None` if it is not.
    fn exactness(&self, media: Media) -> Option<u8> {
        match self.essence {
            "*/*" => Some(0),
            range if range.eq_ignore_ascii_case("application/*") => Some(1),
            range if range.eq_ignore_ascii_case(media.name()) => Some(2),
            _ => None,
        }
    }
}

/// `0.75` as 750. What is no weight weighs nothing less than most.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.parse::<u16>()) {
        ("0", Ok(value @ ..1000)) => value,
        _ => 1000,
    }
}
