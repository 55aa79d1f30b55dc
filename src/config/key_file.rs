//! Secrets for authenticated STAMP, from a file.
//!
//! Read [`read`]: collector and reflector share it, so that both ends take the same file for the same key.

use crate::probe::shape::Key;
use std::io::Read;
use std::path::Path;

/// Bytes of a key file at most.
pub const MAX_KEY: usize = 4096;

/// Reads a key: the file's bytes without one line end at the end; after `hex:`, hexadecimal digits.
///
/// # Errors
/// Unreadable, empty, longer than [`MAX_KEY`], or bad hexadecimal digits; the text does not contain the key.
pub fn read(path: &Path) -> Result<Key, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("cannot read {shown}: {e}"))?;
    if bytes.len() > MAX_KEY {
        return Err(format!("{shown} is longer than {MAX_KEY} bytes"));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if let Some(digits) = bytes.strip_prefix(b"hex:") {
        bytes =
            unhex(digits).ok_or_else(|| format!("{shown} has no even number of hexadecimal digits after `hex:`"))?;
    }
    if bytes.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(Key(bytes))
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pairs = digits.chunks(2);
    pairs.map(|pair| if let [high, low] = *pair { Some(value(high)? << 4 | value(low)?) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, bytes).unwrap();
        read(&path).map(|key| key.0)
    }

    #[test]
    fn keys_are_bytes_or_hex() {
        assert_eq!(key(b"secret\n"), Ok(b"secret".to_vec()));
        assert_eq!(key(b"secret\r\n"), Ok(b"secret".to_vec()));
        assert_eq!(key(b"secret\n\n"), Ok(b"secret\n".to_vec()));
        assert_eq!(key(b"hex:00fF\n"), Ok(vec![0, 255]));
        for bad in [&b""[..], b"\n", b"hex:", b"hex:0", b"hex:zz", &[7; MAX_KEY + 1]] {
            assert!(key(bad).is_err());
        }
        assert!(read(Path::new("/nonexistent/key")).unwrap_err().contains("cannot read"));
    }
}
