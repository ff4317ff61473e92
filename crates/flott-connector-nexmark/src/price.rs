//! Prices: log-uniform from 1 to 1,000,000 dollars, in cents.

/// 10^(6/256): from one entry of the table to the next.
const STEP: f64 = 1.055_449_600_878_603;

/// 100 * 10^(6 * i / 256), made by multiplication alone so that it is the same on every machine.
const STEPS: [f64; 256] = {
    let mut steps = [100.0; 256];
    let mut idx = 1;
    while idx < steps.len() {
        steps[idx] = steps[idx - 1] * STEP;
        idx += 1;
    }
    steps
};

/// ln(10) * 6 / 2^32: the exponent that the last bit of a fraction stands for.
const EXPONENT_PER_BIT: f64 = 3.216_674_215_617_653_5e-9;

/// `round(10^(6 u) * 100)` for `u` = `fraction` / 2^32, without `powf`: the top eight bits of `u` choose an entry of a
/// table, the rest of the exponent, below 0.054, goes through a Taylor polynomial that is exact to 3 * 10^-13.
#[inline(always)]
pub(crate) fn price(fraction: u32) -> u64 {
    let [top, ..] = fraction.to_be_bytes();
    let t = f64::from(fraction & 0x00ff_ffff) * EXPONENT_PER_BIT;
    let high = 1.0 / 6.0 + t * (1.0 / 24.0 + t * (1.0 / 120.0 + t * (1.0 / 720.0)));
    let power = 1.0 + t * (1.0 + t * (0.5 + t * high));
    (STEPS[usize::from(top)] * power + 0.5) as i64 as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_powers_that_they_stand_for() {
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-15;
        assert!(near(STEP, 10_f64.powf(6.0 / 256.0)));
        assert!(near(EXPONENT_PER_BIT, 10_f64.ln() * 6.0 / 4_294_967_296.0));
        assert!((STEPS[255] / (10_f64.powf(6.0 * 255.0 / 256.0) * 100.0) - 1.0).abs() < 1e-13);
    }

    #[test]
    fn prices_are_those_of_the_formula() {
        assert_eq!((price(0), price(u32::MAX)), (100, 100_000_000));
        let mut off_by_one = 0;
        let fractions = (0..=u32::MAX).step_by(9_973);
        for fraction in fractions {
            let formula = (10_f64.powf(f64::from(fraction) / 4_294_967_296.0 * 6.0) * 100.0).round() as u64;
            let found = price(fraction);
            assert!(found.abs_diff(formula) <= 1, "{found} for {formula}");
            off_by_one += u32::from(found != formula);
        }
        assert!(off_by_one < 10, "{off_by_one} of 430,000");
    }
}
