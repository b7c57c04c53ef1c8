//! A guide as a person reads it on a terminal.

use super::Paint;
use crate::discovery::profile::Guide;
use crate::discovery::qr::Code;

/// Columns to write in.
const WIDTH: usize = 96;

/// Headline, values, steps and limits.
pub fn told(title: &str, guide: &Guide, paint: Paint) -> String {
    let widest = guide.values.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut text = format!("{}\n{}\n\n", paint.heading(title), wrapped(&guide.headline, 0));
    for (name, value) in &guide.values {
        text.extend([format!("  {name:widest$}  {value}\n")]);
    }
    text.extend([format!("\n{}\n", paint.heading("What to do"))]);
    for (number, step) in (1..).zip(&guide.steps) {
        text.extend([format!("{number:2}. {}\n", wrapped(step, 4))]);
    }
    text.extend([format!("\n{}\n", paint.heading("What cannot work, and where it ends"))]);
    for limit in &guide.limits {
        text.extend([format!("  - {}\n", wrapped(limit, 4))]);
    }
    text
}

/// The files, each under its name.
pub fn files(guide: &Guide) -> String {
    guide.files.iter().map(|file| format!("\n# {}\n{}", file.name, file.text)).collect::<Vec<_>>().concat()
}

/// A code and what it says. In colour it is white on black on any terminal; without, the terminal has to be dark itself.
pub fn code(code: &Code, says: &str, paint: Paint) -> String {
    let line = |line: &String| match paint {
        Paint::Plain => format!("{line}\n"),
        Paint::Colour => format!("\u{1b}[97;40m{line}\u{1b}[0m\n"),
    };
    code.lines().iter().map(line).chain([format!("{says}\n")]).collect()
}

/// `text` in lines, those after the first begun with `indent` spaces.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            out.extend([format!("\n{:indent$}", "")]);
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_between_words_and_indented() {
        let text = wrapped(&"word ".repeat(40), 4);
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.len() <= WIDTH));
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")));
        let long = "x".repeat(200);
        assert_eq!(wrapped(&long, 4), long);
    }

    #[test]
    fn code_is_drawn_in_colours_of_its_own_where_there_are_any() {
        let drawn = Code::of("dns.example").unwrap();
        let plain = code(&drawn, "dns.example", Paint::Plain);
        assert!(plain.ends_with("\ndns.example\n") && !plain.contains('\u{1b}'));
        let coloured = code(&drawn, "dns.example", Paint::Colour);
        assert_eq!(coloured.replace("\u{1b}[97;40m", "").replace("\u{1b}[0m", ""), plain);
    }
}
