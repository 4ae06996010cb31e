//! One turn of the loop: what happened, and what else has happened meanwhile, before anything is made of it.

/// The most that is taken in one turn.
const MOST: usize = 512;

/// Takes the first, and what else is ready. Nothing is asked for that is not taken.
pub(super) fn turn<S, T>(
    state: &mut S,
    first: T,
    mut take: impl FnMut(&mut S, T),
    mut next: impl FnMut(&mut S) -> Option<T>,
) {
    take(state, first);
    for _ in 1..MOST {
        match next(state) {
            Some(more) => take(state, more),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn nothing_of_what_is_ready_is_lost() {
        let mut state = (VecDeque::from_iter(0..3 * MOST), Vec::new());
        while let Some(first) = state.0.pop_front() {
            let before = state.1.len();
            turn(&mut state, first, |(_, taken), item| taken.push(item), |(waiting, _)| waiting.pop_front());
            assert!(state.1.len() - before <= MOST);
        }
        assert_eq!(state.1, Vec::from_iter(0..3 * MOST));
    }
}
