//! From a target's tags to label names.
//!
//! A tag's label is `tag_` and the tag's name with every character that a label name cannot have replaced by
//! `_`. So no tag takes the place of a label of ours or of Prometheus' own. Where names of tags become the same,
//! the first in the order of the names keeps it, the others get `_2`, `_3` and so on.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a set of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagLabels(BTreeMap<String, String>);

impl TagLabels {
    /// Labels for tags of these names, which may repeat.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> TagLabels {
        let names: BTreeSet<&str> = names.collect();
        let (mut labels, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for name in names {
            let plain: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
            let plain = format!("tag_{plain}");
            let mut label = plain.clone();
            let mut number = 2u64;
            while !taken.insert(label.clone()) {
                label = format!("{plain}_{number}");
                number += 1;
            }
            labels.insert(name.to_owned(), label);
        }
        TagLabels(labels)
    }

    /// The label of a tag that was among the names.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::page::is_label_name;
    use proptest::prelude::*;

    #[test]
    fn names_that_become_the_same_are_numbered_in_their_order() {
        let labels = TagLabels::of(["a.b", "rack", "a-b", "a_b", "a_b_2", "dst", "9", "é", "a-b"].into_iter());
        let of = |name| labels.get(name).unwrap();
        // in the order of the names: a-b, a.b, a_b, a_b_2
        assert_eq!(
            [of("a-b"), of("a.b"), of("a_b"), of("a_b_2")],
            ["tag_a_b", "tag_a_b_2", "tag_a_b_3", "tag_a_b_2_2"]
        );
        assert_eq!([of("rack"), of("dst"), of("9"), of("é")], ["tag_rack", "tag_dst", "tag_9", "tag__"]);
        assert_eq!(labels.get("other"), None);
    }

    proptest! {
        #[test]
        fn every_tag_has_a_label_of_its_own(names in prop::collection::btree_set("[ab_\\-. é\"]{0,4}|\\PC*", 0..20)) {
            let labels = TagLabels::of(names.iter().map(String::as_str));
            let distinct: BTreeSet<&str> = names.iter().map(|name| labels.get(name).unwrap()).collect();
            prop_assert_eq!(distinct.len(), names.len());
            prop_assert!(distinct.into_iter().all(|label| is_label_name(label) && label.starts_with("tag_")));
        }
    }
}
