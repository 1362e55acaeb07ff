//! Weights that follow their gradients at rates of their own.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Weights by name, and how their rates differ from those of the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// A Hugging Face name, in which `*` stands for any characters: `*.down_proj.weight`.
    pub params: String,
    /// What the learning rate is multiplied by; 0 leaves the weights as they are.
    #[serde(default = "one")]
    pub lr_scale: f64,
    /// What the weight decay is multiplied by.
    #[serde(default = "one")]
    pub weight_decay_scale: f64,
}

fn one() -> f64 {
    1.0
}

impl Group {
    /// Names the key that makes no sense.
    pub(super) fn validate(&self) -> Result<()> {
        for (key, value) in
            [("groups.lr_scale", self.lr_scale), ("groups.weight_decay_scale", self.weight_decay_scale)]
        {
            if !(0.0..=1e6).contains(&value) {
                let rule = "a number from 0 to 1000000".into();
                return Err(Error::Config { key, value: value.to_string(), rule });
            }
        }
        Ok(())
    }

    /// Whether a weight belongs to it.
    pub fn holds(&self, name: &str) -> bool {
        let mut parts = self.params.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// The group of each name, the first that holds it.
///
/// # Errors
/// Where a group holds none.
pub fn assign<'a>(groups: &'a [Group], names: &[&str]) -> Result<Vec<Option<&'a Group>>> {
    if let Some(group) = groups.iter().find(|group| !names.iter().any(|name| group.holds(name))) {
        let rule = format!("a name of a weight, as {}, or several by *", names.first().unwrap_or(&""));
        return Err(Error::Config { key: "groups.params", value: group.params.clone(), rule });
    }
    Ok(names.iter().map(|name| groups.iter().find(|group| group.holds(name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(params: &str) -> Group {
        Group { params: params.into(), lr_scale: 0.5, weight_decay_scale: 1.0 }
    }

    #[test]
    fn stars_stand_for_any_characters() {
        let name = "model.layers.3.mlp.down_proj.weight";
        for pattern in ["*", name, "*.down_proj.weight", "model.layers.*", "*layers.*.mlp.*weight", "model*"]
        {
            assert!(group(pattern).holds(name), "{pattern}");
        }
        for pattern in
            ["", "model", "*.down_proj", "layers.*", "model.layers.3*3.mlp*", "*up_proj*", "weight*"]
        {
            assert!(!group(pattern).holds(name), "{pattern}");
        }
    }

    #[test]
    fn the_first_group_holds_and_an_empty_one_is_refused() {
        let names = ["a.weight", "b.weight", "c"];
        let groups = [group("a*"), group("*weight")];
        let found = assign(&groups, &names).unwrap();
        let patterns: Vec<_> = found.iter().map(|g| g.map(|g| g.params.as_str())).collect();
        assert_eq!(patterns, [Some("a*"), Some("*weight"), None]);
        let error = assign(&[group("d*")], &names).unwrap_err().to_string();
        assert!(error.contains("groups.params is d*"), "{error}");
    }
}
