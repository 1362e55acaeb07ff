//! `bitnet bench`, `bitnet doctor` and the zeros that `bitnet perplexity` counts.

mod common;

use common::{bitnet, stderr, stdout, succeeds, testdata, with_env};

#[test]
fn bench_writes_a_table_with_a_cell_for_every_column() {
    let args = ["bench", "--synthetic", "tiny", "-p", "16", "-n", "4", "-r", "1", "-t", "1,2", "-d", "0,32"];
    let table = succeeds(&args);
    assert!(table.contains("| pp16 |") && table.contains("| tg4 @ d32 |"), "{table}");
    assert_eq!(table.lines().count(), 2 + 2 * 4);
    assert!(table.lines().all(|line| line.matches('|').count() == 10), "{table}");
}

#[test]
fn bench_measures_pairs_of_numbers_of_threads() {
    let bench = ["bench", "--synthetic", "tiny", "-p", "16", "-n", "4", "-r", "1", "-t", "1,3", "-tb", "2"];
    let table = succeeds(&bench);
    let rows: Vec<Vec<&str>> = table.lines().skip(2).map(|row| row.split(" | ").collect()).collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|cells| (cells[5], cells[6])).collect();
    assert_eq!(rows, [("2", "pp16"), ("1", "tg4"), ("2", "pp16"), ("3", "tg4")], "{table}");
}

#[test]
fn bench_measures_decoding_with_guesses() {
    let args = ["bench", "--synthetic", "tiny", "-p", "0", "-n", "6", "-r", "1", "--lookup", "0,2"];
    let table = succeeds(&args);
    assert!(table.contains("| tg6 |") && table.contains("| tg6 +2 |"), "{table}");
}

#[test]
fn bench_says_how_the_head_is_held_and_what_it_reads() {
    let receipt = |head: &str| -> serde_json::Value {
        let args =
            ["bench", "--synthetic", "tiny", "-p", "0", "-n", "2", "-r", "1", "--head", head, "-o", "json"];
        serde_json::from_str(&succeeds(&args)).unwrap()
    };
    let (file, rounded) = (receipt("file"), receipt("q6_k"));
    assert_eq!((&file["head"], &rounded["head"]), (&"f16".into(), &"q6_k".into()));
    let bytes = |value: &serde_json::Value| value["decode_bytes"].as_u64().unwrap();
    assert_eq!(bytes(&file) - bytes(&rounded), 512 * (256 * 2 - 210));
    let output = bitnet(&["bench", "--synthetic", "tiny", "-p", "0", "-n", "2", "-r", "1", "--head", "q8_0"]);
    assert!(stderr(&output).contains("rounded from f16 to q8_0"), "{}", stderr(&output));
}

#[test]
fn bench_decodes_from_a_copy_where_that_is_faster() {
    let receipt = |device: &str, copy: &[&str]| {
        let args = [
            "bench",
            "--synthetic",
            "tiny",
            "-p",
            "0",
            "-n",
            "2",
            "-r",
            "1",
            "-o",
            "json",
            "--device",
            device,
        ];
        let output = bitnet(&[&args[..], copy].concat());
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (value["decode_bytes"].as_u64().unwrap(), stderr(&output))
    };
    // The scalar tier takes a copy, so that every machine can look into one.
    let ((plain, quiet), (copied, note)) =
        (receipt("cpu/scalar", &[]), receipt("cpu/scalar", &["--decode-copy"]));
    assert!(copied < plain && !quiet.contains("copy") && note.contains("reads a copy"), "{note}");
}

#[test]
fn bench_measures_the_time_to_the_first_token() {
    let bench = ["bench", "-p", "0", "-n", "0", "-r", "2", "--ttft", "16,3"];
    let model = testdata("gguf-bitnet/bitnet-i2_s.gguf");
    let table = succeeds(&[&bench[..], &["-m", &model]].concat());
    assert!(table.contains("| ttft16 |") && table.contains("| ttft3 |"), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.lines().all(|line| line.matches('|').count() == 9), "{table}");
    let csv = succeeds(&[&bench[..], &["--synthetic", "tiny", "-o", "csv"]].concat());
    assert!(csv.lines().all(|line| line.split(',').count() == 9), "{csv}");
    let json = succeeds(&[&bench[..], &["-m", &model, "-o", "json"]].concat());
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let first = &value["first_token"][0];
    assert_eq!(first["test"], "ttft16");
    let seconds = |name: &str| first[name].as_array().unwrap().iter().filter_map(|x| x.as_f64()).sum::<f64>();
    assert!(seconds("samples_open_s") > 0.0 && seconds("samples_prompt_s") > 0.0, "{first}");
}

#[test]
fn bench_measures_sequences_side_by_side_and_refuses_more_than_memory_holds() {
    let bench = ["bench", "--synthetic", "tiny", "-p", "0", "-n", "6", "-r", "1", "-d", "40"];
    let table = succeeds(&[&bench[..], &["--sequences", "1,3", "--lookup", "0,2"]].concat());
    for test in ["tg6", "tg6 +2", "tg6 x3", "tg6 x3 +2"] {
        assert!(table.contains(&format!("| {test} @ d40 |")), "{test}: {table}");
    }
    // The second times the positions of a block is one block, to a processor that lets it wrap around.
    for sequences in ["400000000", "576460752303423489"] {
        let output = bitnet(&[&bench[..], &["--sequences", sequences]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("of KV cache"), "{}", stderr(&output));
    }
}

#[test]
fn bench_writes_csv_with_a_value_for_every_column() {
    let table = succeeds(&[
        "bench",
        "--synthetic",
        "tiny",
        "--n-prompt",
        "16",
        "--n-gen",
        "4",
        "--repetitions",
        "1",
        "-o",
        "csv",
    ]);
    assert!(table.lines().all(|line| line.split(',').count() == 11), "{table}");
}

#[test]
fn bench_writes_a_receipt() {
    let model = testdata("bitnet-packed");
    let json = succeeds(&["bench", "-m", &model, "-p", "16", "-n", "4", "-r", "2", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["tests"][1]["samples_tps"].as_array().unwrap().len(), 2);
    assert_eq!(value["fallbacks"], 0);
    assert!(value["int8_gops_per_s"].as_f64().unwrap() > 0.0);
    assert!(value["commit"].is_null() || value["commit"].as_str().unwrap().len() == 40);
}

#[test]
fn doctor_names_the_tier_that_would_be_used() {
    let value: serde_json::Value = serde_json::from_str(&succeeds(&["doctor", "--json"])).unwrap();
    assert!(value["tiers"].as_array().unwrap().contains(&value["tier_used"]));
    assert!(value["read_bandwidth_gb_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn doctor_measures_ceilings_for_each_number_of_threads() {
    let value: serde_json::Value =
        serde_json::from_str(&succeeds(&["doctor", "--ceilings", "--json"])).unwrap();
    let ceilings = value["ceilings"].as_array().unwrap();
    assert_eq!(ceilings[0]["threads"], 1);
    assert_eq!(ceilings.last().unwrap()["threads"], value["hardware_threads"]);
    for ceiling in ceilings {
        for key in ["read_bandwidth_gb_per_s", "int8_gops_per_s", "f32_gflops_per_s"] {
            assert!(ceiling[key].as_f64().unwrap() > 0.0, "{key} of {ceiling}");
        }
    }
    let table = succeeds(&["doctor", "--ceilings"]);
    assert_eq!(
        table.split("threads  read GB/s").nth(1).unwrap().lines().count(),
        1 + ceilings.len(),
        "{table}"
    );
}

#[test]
fn doctor_gives_its_figures_units() {
    let report = succeeds(&["doctor"]);
    assert!(report.contains("GB/s") && report.contains("GiB") && !report.contains("gb per s"), "{report}");
}

#[test]
fn perplexity_counts_zeros_by_layer_and_scores_the_same() {
    let (model, text) = (testdata("bitnet-packed"), testdata("README.md"));
    let args = ["perplexity", "-m", &model, "-f", &text, "-c", "32", "--chunks", "2"];
    let json = |output: &str| serde_json::from_str::<serde_json::Value>(output).unwrap();
    let json_args = [&args[..], &["--json"]].concat();
    let plain = json(&succeeds(&json_args));
    let counted = json(&stdout(&with_env(&[("BITNET_SPARSITY", "1")], &json_args)));
    assert_eq!(counted["nats"], plain["nats"]);
    assert!(plain.get("zero_shares").is_none());

    let shares = &counted["zero_shares"];
    let layers = shares["layers"].as_array().unwrap();
    let share = |of: &serde_json::Value, tile: &str| of[tile].as_f64().unwrap();
    assert_eq!(layers.len(), 2);
    for tile in ["1x1", "1x4", "8x64"] {
        let mean = (share(&layers[0], tile) + share(&layers[1], tile)) / 2.0;
        assert!((share(&shares["all"], tile) - mean).abs() < 1e-12, "{tile} of {shares}");
    }
    assert!(
        share(&layers[0], "1x1") > share(&layers[0], "1x4") && share(&layers[0], "1x4") > 0.0,
        "{shares}"
    );

    let table = succeeds(&[&args[..], &["--sparsity"]].concat());
    let row = table.lines().last().unwrap();
    let all = format!("| all | {:.2} |", 100.0 * share(&shares["all"], "1x1"));
    assert!(row.starts_with(&all) && table.matches("1x256").count() == 1, "{table}");
}

#[test]
fn perplexity_says_what_a_rounded_head_costs() {
    let (model, text) = (testdata("bitnet-packed"), testdata("README.md"));
    let nats = |head: &str| {
        let args =
            ["perplexity", "-m", &model, "-f", &text, "-c", "32", "--chunks", "2", "--json", "--head", head];
        let value: serde_json::Value = serde_json::from_str(&succeeds(&args)).unwrap();
        value["nats"].as_f64().unwrap()
    };
    let (file, rounded) = (nats("file"), nats("q8_0"));
    assert_eq!(nats("auto"), file);
    assert!(rounded != file && (rounded - file).abs() < 0.01, "{rounded} nats instead of {file}");
}
