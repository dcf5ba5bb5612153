//! What rules can speak of: the parts of a review.

use crate::types::Type;

/// The names that are there in every rule.
pub(crate) const ROOTS: [&str; 6] = ["request", "original", "source", "target", "places", "option_paths"];
/// The number of `requester` behind them.
pub(crate) const REQUESTER: u8 = 6;

/// The number and the type of a name.
pub(crate) fn root(name: &str) -> Option<(u8, Type)> {
    let ty = match name {
        "request" | "original" => Type::Request,
        "source" => Type::ResolvedPath.maybe(),
        "target" => Type::ResolvedPath,
        "places" => Type::list(Type::Place),
        "option_paths" => Type::list(Type::OptionPath),
        "requester" => return Some((REQUESTER, Type::Requester)),
        _ => return None,
    };
    let number = ROOTS.iter().position(|root| *root == name)?;
    Some((u8::try_from(number).ok()?, ty))
}
