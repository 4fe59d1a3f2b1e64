use anyhow::{Context, Result};

/// The number of words, in digits.
pub fn counted(text: &str) -> Result<String> {
    let first = text.split_whitespace().next().context("no words")?;
    let words = first.len();
    Ok(itoa::Buffer::new().format(words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted() {
        assert_eq!(counted("three short words").unwrap(), "3");
        assert!(counted("").is_err());
    }
}
