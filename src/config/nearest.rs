//! The known word that a misspelt one is nearest to.

/// The number of single-character slips (insert, leave out, replace, swap neighbours) between two words.
#[must_use]
pub fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (row, from) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, &to) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, column) + usize::from(from != to))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            let swapped = column > 0 && right.get(column - 1) == Some(&from) && previous == Some(to);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut last, current);
        previous = Some(from);
    }
    last.last().copied().unwrap_or_default()
}

/// How many slips a word of this length may hold and still be recognised.
#[must_use]
pub fn tolerance(word: &str) -> usize {
    (word.chars().count() / 3).clamp(1, 3)
}

/// The one of `known` that is nearest to `word`, if near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(slips, _)| slips <= tolerance(word))
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted_and_neighbours_swap_in_one() {
        for (left, right, slips) in
            [("", "", 0), ("a", "", 1), ("timout", "timeout", 1), ("ecs", "esc", 1), ("abc", "xyz", 3)]
        {
            assert_eq!(distance(left, right), slips, "{left} {right}");
            assert_eq!(distance(right, left), slips, "{right} {left}");
        }
    }

    #[test]
    fn a_word_far_from_all_is_nearest_to_none() {
        assert_eq!(nearest("adress", ["address", "allow"]), Some("address"));
        assert_eq!(nearest("banana", ["address", "allow"]), None);
    }
}
