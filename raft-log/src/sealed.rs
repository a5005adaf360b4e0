//! Small text files: a title that names their version, lines, and a checksum as the last line.

/// The text of a file.
pub fn seal(title: &str, lines: &str) -> String {
    let body = format!("{title}\n{lines}");
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc32c {crc:08x}\n")
}

/// The lines between title and checksum.
///
/// # Errors
/// What is wrong with the file.
pub fn open<'t>(title: &str, text: &'t [u8]) -> Result<std::str::Lines<'t>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "not text")?;
    let (body, crc) = text.rsplit_once("crc32c ").ok_or("no checksum")?;
    let crc = u32::from_str_radix(crc.trim_end(), 16).map_err(|_| "no checksum")?;
    if crc != crc32c::crc32c(body.as_bytes()) {
        return Err("checksum does not match");
    }
    let mut lines = body.lines();
    if lines.next() != Some(title) {
        return Err("a version that this program does not know");
    }
    Ok(lines)
}
