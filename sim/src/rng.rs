//! Seeded randomness: the same numbers on every platform, from additions, multiplications and divisions only.

/// A splitmix64 generator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream `stream` of `seed`: streams of one seed have nothing to do with each other.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Rng(mix(seed ^ mix(stream.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// In [0, 1).
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `bound`, which is not 0.
    #[inline]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether something happens that happens in this share of cases.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.fraction() < share
    }

    /// Exponentially distributed with mean 1, below 37.
    pub(crate) fn exponential(&mut self) -> f64 {
        -ln(1.0 - self.fraction())
    }

    /// Normally distributed with mean 0 and deviation 1 (Marsaglia's polar method).
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.fraction() - 1.0, 2.0 * self.fraction() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                // A square root is exact to the last bit everywhere.
                return x * (-2.0 * ln(square) / square).sqrt();
            }
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The natural logarithm of a normal number in (0, 1]. The standard library's differs between platforms in the last
/// bits, and a digest would notice.
pub(crate) fn ln(x: f64) -> f64 {
    // x is a power of 2 and a mantissa between the square roots of 1/2 and of 2.
    let bits = x.to_bits();
    let exponent = (bits.wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits()) as i64) >> 52;
    let mantissa = f64::from_bits(bits.wrapping_sub((exponent as u64) << 52));
    // ln m = 2 artanh((m - 1) / (m + 1)), and the argument is at most 0.172: ten terms of its series are enough. They
    // are added in groups that need not wait for each other, since every draw of a time waits for this.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let (z2, z4) = (z * z, (z * z) * (z * z));
    let first = (1.0 + z * (1.0 / 3.0)) + z2 * (1.0 / 5.0 + z * (1.0 / 7.0));
    let second = (1.0 / 9.0 + z * (1.0 / 11.0)) + z2 * (1.0 / 13.0 + z * (1.0 / 15.0));
    let third = 1.0 / 17.0 + z * (1.0 / 19.0);
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * (first + z4 * (second + z4 * third))
}

/// The exponential function of a number from -700 to 700; what is outside counts as the nearer end.
pub(crate) fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    // x = n ln 2 + rest, and the rest is at most half of ln 2.
    let n = (x / std::f64::consts::LN_2).round();
    let rest = x - n * std::f64::consts::LN_2;
    let mut term = 1.0;
    let mut sum = 1.0;
    for factor in 1..20 {
        term *= rest / f64::from(factor);
        sum += term;
    }
    sum * f64::from_bits(((1023 + n as i64) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right() {
        for x in [0.0, 1.0, -1.0, 0.3466, 12.5, -30.0, 600.0] {
            let (seen, right) = (exp(x), f64::exp(x));
            assert!((seen / right - 1.0).abs() < 1e-11, "exp {x}: {seen} instead of {right}");
        }
        assert!(exp(1e9).is_finite() && exp(-1e9) > 0.0);
    }

    #[test]
    fn normal_numbers_are_normal() {
        let mut rng = Rng::new(3, 4);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|draw| draw * draw).sum::<f64>() / 1e5;
        let beyond = draws.iter().filter(|draw| **draw > 2.326).count();
        assert!(mean.abs() < 0.02 && (0.97..1.03).contains(&variance), "{mean} {variance}");
        assert!((900..1100).contains(&beyond), "{beyond} of 1000 beyond the 99th percentile");
    }

    #[test]
    fn the_logarithm_is_right() {
        let mut rng = Rng::new(5, 6);
        let drawn: Vec<f64> = (0..100_000).map(|_| 1.0 - rng.fraction()).collect();
        for x in [1.0, 0.75, 0.5, std::f64::consts::FRAC_1_SQRT_2, 0.1, 1e-3, 1.1e-16, 1e-300].into_iter().chain(drawn)
        {
            let (seen, right) = (ln(x), f64::ln(x));
            assert!((seen - right).abs() <= 1e-15 * right.abs(), "ln {x:e}: {seen} instead of {right}");
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn the_mean_is_right() {
        let mut rng = Rng::new(1, 2);
        let mean = (0..100_000).map(|_| rng.exponential()).sum::<f64>() / 100_000.0;
        assert!((0.98..1.02).contains(&mean), "{mean}");
        let hits = (0..100_000).filter(|_| rng.chance(0.25)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert!(!rng.chance(0.0));
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |seed, stream| Rng::new(seed, stream).next();
        assert_eq!(draw(1, 1), draw(1, 1));
        assert!(draw(1, 1) != draw(1, 2) && draw(1, 1) != draw(2, 1));
    }
}
