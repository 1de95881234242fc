//! The entries of a matrix. Pure.

use std::str::FromStr;

use crate::report::ci::record::Variable;

/// Most entries of a matrix.
const MOST: usize = 256;

/// A variable of a matrix with all its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axis {
    name: String,
    values: Vec<String>,
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "not a variable with its values such as NODE=20,22";
        let Variable { name, value } = text.parse().map_err(|_| example.to_owned())?;
        let values: Vec<String> = value.split(',').map(str::to_owned).collect();
        if let Some(twice) = values.iter().enumerate().find(|(index, one)| values[..*index].contains(one)) {
            return Err(format!("the value `{}` is listed twice", twice.1));
        }
        Ok(Self { name, values })
    }
}

/// All combinations of the values, the last variable changing fastest.
pub(super) fn entries(axes: &[Axis]) -> Result<Vec<Vec<Variable>>, String> {
    let mut entries = vec![Vec::new()];
    for (index, axis) in axes.iter().enumerate() {
        if axes[..index].iter().any(|other| other.name == axis.name) {
            return Err(format!("the matrix has the variable `{}` twice", axis.name));
        }
        if entries.len() * axis.values.len() > MOST {
            return Err(format!("the matrix has more than {MOST} entries"));
        }
        let variable = |value: &String| Variable { name: axis.name.clone(), value: value.clone() };
        let with = |entry: Vec<Variable>| {
            axis.values.iter().map(move |value| [&entry[..], &[variable(value)]].concat()).collect::<Vec<_>>()
        };
        entries = entries.into_iter().flat_map(with).collect();
    }
    Ok(entries)
}

/// The folder of an entry's artifacts: `NODE-20_PG-16`. The number makes it unique if a value has other characters.
pub(super) fn folder_name(number: usize, variables: &[Variable]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let parts: Vec<String> = variables.iter().map(|it| format!("{}-{}", it.name, it.value)).collect();
    let joined = parts.join("_");
    let exact = joined.chars().all(|c| plain(c) || c == '_') && joined.len() <= 100;
    let name: String = joined.chars().map(|c| if plain(c) { c } else { '_' }).take(100).collect();
    if exact { name } else { format!("{number}_{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ci::record::label;

    fn axes(texts: &[&str]) -> Vec<Axis> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn all_combinations_are_entries() {
        let entries = entries(&axes(&["NODE=20,22", "PG=15,16"])).unwrap();
        let labels: Vec<String> = entries.iter().map(|entry| label(entry)).collect();
        assert_eq!(labels, ["NODE=20 PG=15", "NODE=20 PG=16", "NODE=22 PG=15", "NODE=22 PG=16"]);
    }

    #[test]
    fn a_value_may_be_empty_or_hold_an_equals_sign() {
        let entries = entries(&axes(&["FLAGS=,-O=2"])).unwrap();
        let labels: Vec<String> = entries.iter().map(|entry| label(entry)).collect();
        assert_eq!(labels, ["FLAGS=", "FLAGS=-O=2"]);
    }

    #[test]
    fn what_is_no_matrix_is_refused_with_the_reason() {
        assert!("NODE".parse::<Axis>().unwrap_err().contains("such as NODE=20,22"));
        assert!("NODE=1,2,1".parse::<Axis>().unwrap_err().contains("twice"));
        assert!(entries(&axes(&["A=1", "A=2"])).unwrap_err().contains("`A` twice"));
        let many: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let many = |name: &str| format!("{name}={}", many.join(","));
        assert!(entries(&axes(&[&many("A"), &many("B")])).unwrap_err().contains("more than 256"));
    }

    #[test]
    fn folders_of_different_entries_differ() {
        let of = |number, text: &str| folder_name(number, &[text.parse().unwrap()]);
        assert_eq!(of(1, "NODE=20.1"), "NODE-20.1");
        assert_ne!(of(1, "A=x/y"), of(2, "A=x y"));
        assert!(!of(1, "A=../../etc").contains('/'));
    }
}
