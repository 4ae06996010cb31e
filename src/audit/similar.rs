//! What somebody may have meant: the few names that are nearest to one that is not there.

/// The names nearest to a wanted one, collected from any number of offers.
#[derive(Debug)]
pub(super) struct Similar {
    wanted: String,
    /// Distance and name, nearest first.
    nearest: Vec<(usize, String)>,
    offered: bool,
}

impl Similar {
    const KEPT: usize = 3;

    /// Looks for names like `wanted`.
    #[must_use]
    pub(super) fn to(wanted: String) -> Self {
        Self { wanted, nearest: Vec::new(), offered: false }
    }

    /// Offers a name that exists.
    pub(super) fn offer(&mut self, name: String) {
        self.offered = true;
        if self.nearest.iter().any(|(_, kept)| *kept == name) {
            return;
        }
        let distance = strsim::damerau_levenshtein(&self.wanted, &name);
        // Names that share most of their letters are near; the same name in another namespace is, too.
        let base = |text: &str| text.rsplit('/').next().map(str::to_owned);
        let near = distance <= self.wanted.len().max(name.len()) / 2 || base(&self.wanted) == base(&name);
        if near {
            self.nearest.push((distance, name));
            self.nearest.sort();
            self.nearest.truncate(Self::KEPT);
        }
    }
}

impl std::fmt::Display for Similar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.nearest.iter().map(|(_, name)| name.as_str()).collect();
        match (self.offered, names.is_empty()) {
            (_, false) => write!(f, "; similar: {}", names.join(", ")),
            (true, true) => f.write_str("; none of its kind has a similar name"),
            (false, true) => f.write_str(", nor any other of its kind"),
        }
    }
}
