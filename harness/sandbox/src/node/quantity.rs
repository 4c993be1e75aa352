//! Kubernetes quantities (`100m`, `1Gi`) as exact numbers, for the downward API's resource fields.
//!
//! Pure. Start at [`parse`] and [`in_units_of`].

/// A quantity in billionths, the finest unit a quantity may have. `None` when the text is not a quantity.
pub(crate) fn parse(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let scale: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "k" => 10_i128.pow(12),
        "M" => 10_i128.pow(15),
        "G" => 10_i128.pow(18),
        "T" => 10_i128.pow(21),
        "P" => 10_i128.pow(24),
        "E" => 10_i128.pow(27),
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        "Ti" => 1_000_000_000 << 40,
        "Pi" => 1_000_000_000 << 50,
        "Ei" => 1_000_000_000 << 60,
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|e| *e <= 18)?;
            10_i128.pow(9 + exponent)
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['+', '-']);
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let value = whole.checked_mul(scale)?.checked_add(part.checked_mul(scale)? / divisor)?;
    Some(if negative { -value } else { value })
}

/// `value` as a multiple of `divisor`, rounded up, as the kubelet gives resource fields.
pub(crate) fn in_units_of(value: i128, divisor: i128) -> i128 {
    if divisor == 0 { value } else { (value + divisor - 1).div_euclid(divisor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        assert_eq!(parse("100m"), Some(100_000_000));
        assert_eq!(parse("1Gi"), Some(1_073_741_824 * 1_000_000_000));
        assert_eq!(parse("1.5"), Some(1_500_000_000));
        assert_eq!(parse("-2k"), Some(-2_000_000_000_000));
        assert_eq!(parse("2e3"), parse("2k"));
        assert_eq!(parse("x"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn divisors_round_up() {
        assert_eq!(in_units_of(parse("100m").unwrap(), parse("1").unwrap()), 1);
        assert_eq!(in_units_of(parse("1Gi").unwrap(), parse("1Mi").unwrap()), 1024);
        assert_eq!(in_units_of(parse("2").unwrap(), parse("1m").unwrap()), 2000);
    }
}
