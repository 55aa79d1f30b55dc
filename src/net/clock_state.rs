//! Whether something keeps the wall clock on time (adjtimex(2)).

/// How far the kernel believes the wall clock to be off, in nanoseconds; `None` when nothing
/// synchronises it.
pub fn synchronised_within_ns() -> Option<u64> {
    // SAFETY: timex is plain data for which all zeros is a valid value; modes = 0 asks without changing.
    #[expect(unsafe_code, reason = "nix has no adjtimex")]
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex(2) writes one timex through the pointer, which the reference provides.
    #[expect(unsafe_code, reason = "nix has no adjtimex")]
    let result = unsafe { libc::adjtimex(&raw mut state) };
    let unsynchronised = result < 0 || state.status & libc::STA_UNSYNC != 0;
    (!unsynchronised).then(|| u64::try_from(state.maxerror).unwrap_or(u64::MAX).saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    #[test]
    fn asking_changes_nothing() {
        let is_some = super::synchronised_within_ns().is_some();
        assert_eq!(super::synchronised_within_ns().is_some(), is_some);
    }
}
