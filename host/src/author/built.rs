//! What comes of building a plugin.

/// A component that was built.
pub(crate) struct Built {
    /// The plugin's name.
    pub(crate) name: String,
    pub(crate) component: Vec<u8>,
    /// What built it.
    pub(crate) with: &'static str,
}
