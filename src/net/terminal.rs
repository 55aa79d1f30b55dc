//! How high the terminal is: the one thing about it that only a system call with a pointer tells.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Lines of the terminal that standard output is; `None` when it is none or does not know.
pub fn lines() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let out = io::stdout();
    // SAFETY: ioctl_tty(2): TIOCGWINSZ writes one struct winsize to its argument, which is that and outlives the call.
    #[expect(unsafe_code, reason = "nix has no safe call for the size of a terminal")]
    let result = unsafe { libc::ioctl(out.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0).then_some(usize::from(size.ws_row))
}
