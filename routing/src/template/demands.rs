//! What texts ask to be kept while a request passes: what nobody asks for costs nothing.

/// See the module.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Demands {
    /// When bodies began and ended.
    pub moments: bool,
    /// What follows the body of an answer.
    pub trailers: bool,
    /// How many bytes connections have carried.
    pub wire: bool,
}

impl Demands {
    /// What either asks for.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            moments: self.moments || other.moments,
            trailers: self.trailers || other.trailers,
            wire: self.wire || other.wire,
        }
    }

    /// What any of them asks for.
    #[must_use]
    pub fn of(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), Self::and)
    }
}
