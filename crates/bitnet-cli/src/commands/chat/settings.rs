//! What `/set` shows and changes: the sampling flags by their names, and the length of an answer.

use crate::{
    args::{SamplingArgs, StopArgs},
    values,
};
use anyhow::{Result, anyhow, ensure};
use clap::{Args, Command, FromArgMatches, builder::Resettable};

/// Every setting with its value.
pub(super) fn values(sampling: &SamplingArgs, stop: &StopArgs) -> Vec<(&'static str, String)> {
    let bias = sampling.logit_bias.iter().map(|bias| format!("{}{:+}", bias.token, bias.value));
    vec![
        ("temp", sampling.temp.to_string()),
        ("top-k", sampling.top_k.to_string()),
        ("top-p", sampling.top_p.to_string()),
        ("min-p", sampling.min_p.to_string()),
        ("repeat-penalty", sampling.repeat_penalty.to_string()),
        ("repeat-last-n", sampling.repeat_last_n.to_string()),
        ("presence-penalty", sampling.presence_penalty.to_string()),
        ("frequency-penalty", sampling.frequency_penalty.to_string()),
        ("logit-bias", bias.collect::<Vec<_>>().join(",")),
        ("seed", sampling.seed.to_string()),
        ("predict", stop.predict.to_string()),
    ]
}

/// Changes a setting as its flag would.
pub(super) fn set(sampling: &mut SamplingArgs, stop: &mut StopArgs, name: &str, value: &str) -> Result<()> {
    let name = name.trim_start_matches('-');
    if name == "predict" {
        stop.predict = values::whole(value).map_err(|expected| anyhow!("{name} {value}: {expected}"))?;
        return Ok(());
    }
    let flags = flags();
    ensure!(flags.get_arguments().any(|arg| arg.get_long() == Some(name)), "{}", unknown(name));
    let matches = flags.try_get_matches_from([format!("--{name}={value}")]).map_err(|error| {
        let text = error.to_string();
        anyhow!("{}", text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    Ok(sampling.update_from_arg_matches(&matches)?)
}

/// The sampling flags alone: without defaults and twins, so that only what is given changes.
fn flags() -> Command {
    let command = Command::new("/set").no_binary_name(true).disable_help_flag(true);
    SamplingArgs::augment_args_for_update(command)
        .mut_args(|arg| arg.env(Resettable::Reset).default_value(Resettable::Reset))
}

/// What to say of a name that is no setting.
pub(super) fn unknown(name: &str) -> String {
    let names: Vec<_> = flags().get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
    format!("{name}: expected {} or predict", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        sampling: SamplingArgs,
        #[command(flatten)]
        stop: StopArgs,
    }

    #[test]
    fn every_sampling_flag_can_be_shown_and_set_alone() {
        let Given { mut sampling, mut stop } = Given::parse_from(["x", "--temp", "0.1", "--min-p", "0.2"]);
        for arg in flags().get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(values(&sampling, &stop).iter().any(|(name, _)| *name == arg), "{arg}");
        }
        set(&mut sampling, &mut stop, "top-k", "7").unwrap();
        set(&mut sampling, &mut stop, "predict", "9").unwrap();
        assert_eq!((sampling.temp, sampling.top_k, sampling.min_p, stop.predict), (0.1, 7, 0.2, 9));
        let error = set(&mut sampling, &mut stop, "temp", "-1").unwrap_err().to_string();
        assert!(error.contains("at least 0") && !error.contains('\n'), "{error}");
        assert!(set(&mut sampling, &mut stop, "heat", "1").unwrap_err().to_string().contains("temp"));
    }
}
