//! Text as a QR code, for a phone to scan: half blocks on a terminal, SVG on the set-up page.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// The light margin that readers need (ISO/IEC 18004 asks for four modules).
const MARGIN: usize = 4;

/// A code: `true` is dark. Margin included, so that whoever draws it cannot forget it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    width: usize,
    modules: Vec<Color>,
}

impl Code {
    /// The code of `text`; None where it is too long for any (2331 octets).
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
        Some(Self { width: code.width(), modules: code.into_colors() })
    }

    /// Modules on a side, margins included.
    #[must_use]
    pub const fn side(&self) -> usize {
        self.width + 2 * MARGIN
    }

    /// Is the module at `x`, `y` dark? All of the margin is light, and so is everything beyond.
    #[must_use]
    pub fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(MARGIN).filter(|at| *at < self.width);
        let (Some(x), Some(y)) = (inside(x), inside(y)) else { return false };
        self.modules.get(y * self.width + x) == Some(&Color::Dark)
    }

    /// Lines of half blocks, two rows of modules each: what is drawn is light, because most terminals are dark.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let cell = |x, y| match (self.is_dark(x, y), self.is_dark(x, y + 1)) {
            (false, false) => '█',
            (false, true) => '▀',
            (true, false) => '▄',
            (true, true) => ' ',
        };
        (0..self.side()).step_by(2).map(|y| (0..self.side()).map(|x| cell(x, y)).collect()).collect()
    }

    /// An SVG element, dark on white whatever surrounds it.
    #[must_use]
    pub fn svg(&self) -> String {
        let side = self.side();
        let mut path = String::new();
        for (x, y) in (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).filter(|&(x, y)| self.is_dark(x, y)) {
            // Writing to a string cannot fail.
            let _ = write!(path, "M{x} {y}h1v1h-1z");
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\" role=\"img\">\
             <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
        let scale = 4;
        let mut image =
            rqrr::PreparedImage::prepare_from_bitmap(side * scale, side * scale, |x, y| is_dark(x / scale, y / scale));
        let grids = image.detect_grids();
        grids.first().expect("a code is found").decode().expect("it is read").1
    }

    #[test]
    fn what_a_terminal_shows_is_read_back() {
        let text = "https://dns.example:8443/hushgate.mobileconfig";
        let lines: Vec<Vec<char>> =
            Code::of(text).expect("short").lines().iter().map(|line| line.chars().collect()).collect();
        let side = lines[0].len();
        let dark = |x: usize, y: usize| match lines[y / 2][x] {
            ' ' => true,
            '▀' => !y.is_multiple_of(2),
            '▄' => y.is_multiple_of(2),
            _ => false,
        };
        assert_eq!(read(side, dark), text);
    }

    #[test]
    fn what_the_page_shows_is_read_back() {
        let svg = Code::of("dns.example").expect("short").svg();
        let side: usize =
            svg.split("viewBox=\"0 0 ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
        let path = svg.split("<path d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let dark: std::collections::BTreeSet<&str> =
            path.split('M').filter_map(|square| square.strip_suffix("h1v1h-1z")).collect();
        assert_eq!(read(side, |x, y| dark.contains(format!("{x} {y}").as_str())), "dns.example");
    }

    #[test]
    fn what_is_too_long_has_no_code() {
        assert_eq!(Code::of(&"a".repeat(3000)), None);
    }
}
