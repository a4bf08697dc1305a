//! Properties of the denoising kernels that hold for every batch, option, level and number of
//! threads.

use metro_fast_core::denoise::{
    Billionths, Compat, Count, Denoiser, Draw, Inputs, MaskOutput, Masking, Noise, Sentinels,
    SpanCorruption, SpanLengths, SpanOutput, Targets, corrupt_spans, mask_tokens, plan_spans,
};
use metro_fast_core::simd::Level;
use metro_fast_core::tokens::{Rows, SampleIds};
use proptest::collection::vec;
use proptest::prelude::*;

const LEVELS: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Avx512];

/// Rows of different lengths with ids 200 to 999, and the offsets of the rows.
fn batch() -> impl Strategy<Value = (Vec<u16>, Vec<i64>)> {
    vec(vec(200u16..1000, 1..90), 1..8).prop_map(|rows| {
        let mut offsets = vec![0];
        for row in &rows {
            offsets.push(offsets[offsets.len() - 1] + row.len() as i64);
        }
        (rows.concat(), offsets)
    })
}

/// The kind of noise with a given number.
fn law(which: usize, density: f64, mean: f64) -> Noise {
    let prefix_density = Billionths::density(density / 2.0).unwrap();
    let density = Billionths::density(density).unwrap();
    match which {
        0 | 1 => Noise::RandomSpans {
            density,
            mean: Billionths::mean_length(mean).unwrap(),
            compat: [Compat::T5, Compat::Hf][which],
        },
        2 => Noise::Iid { density },
        3 => Noise::RegularSpans { density, shortest: 1, longest: 5 },
        4 => Noise::Prefix { density: prefix_density },
        5 => {
            let lengths = SpanLengths::new(&[0.5, 0.2, 0.0, 0.3], 1).unwrap();
            Noise::SampledSpans { density, lengths }
        }
        _ => Noise::MetroT0 { density, empty: 0.1, longest: 5, upstream: which == 7 },
    }
}

/// Restores the row from which a padded input and its padded label were made.
fn restore(input: &[i64], label: &[i64], sentinels: &Sentinels) -> Vec<i64> {
    let last = sentinels.first + sentinels.step * (sentinels.count as i64 - 1);
    let (low, high) = (sentinels.first.min(last), sentinels.first.max(last));
    let is_sentinel = |id: &i64| (low..=high).contains(id);
    let shown = |ids: &[i64]| -> Vec<i64> { ids.iter().copied().filter(is_sentinel).collect() };
    let ordered = (0..).map(|k| sentinels.first + sentinels.step * k);
    assert!(shown(input).into_iter().zip(ordered).all(|(id, expected)| id == expected));
    let mut spans = label[..label.len() - 1].split(is_sentinel);
    assert_eq!(spans.next(), Some(&[][..]), "a label that is not empty starts with a sentinel");
    let mut row = Vec::new();
    for id in &input[..input.len() - 1] {
        if is_sentinel(id) {
            row.extend(spans.next().expect("a span for every sentinel"));
        } else {
            row.push(*id);
        }
    }
    row
}

#[derive(Debug, PartialEq)]
struct Corrupted<O> {
    input_ids: Vec<O>,
    labels: Vec<O>,
    mask: Vec<O>,
    decoder: Vec<O>,
    input_lengths: Vec<i64>,
    label_lengths: Vec<i64>,
}

fn corrupt(
    ids: &[u16],
    offsets: &[i64],
    options: &SpanCorruption,
    level: Level,
    threads: usize,
) -> Corrupted<i64> {
    let rows = Rows::ragged(ids, offsets).unwrap();
    let count = rows.count();
    let names = SampleIds::new(None, count).unwrap();
    let draw =
        Draw { seed: 1, epoch: 2, noise_mask: None, phases: None, level, num_threads: threads };
    let plan = plan_spans(&rows, &names, options, draw, i64::MAX).unwrap();
    let sizes = (count * plan.widths.0, count * plan.widths.1);
    let mut made = Corrupted {
        input_ids: vec![7; sizes.0],
        labels: vec![7; sizes.1],
        mask: vec![7; sizes.0],
        decoder: vec![7; sizes.1],
        input_lengths: vec![0; count],
        label_lengths: vec![0; count],
    };
    let output = SpanOutput {
        input_ids: &mut made.input_ids,
        labels: &mut made.labels,
        attention_mask: Some(&mut made.mask),
        decoder_input_ids: Some(&mut made.decoder),
        input_lengths: &mut made.input_lengths,
        label_lengths: &mut made.label_lengths,
        denoisers: &mut vec![0; count],
    };
    corrupt_spans(&rows, options, &plan, level, threads, output).unwrap();
    made
}

proptest! {
    #[test]
    fn spans_rebuild_their_row_at_any_level_and_thread_count(
        (ids, offsets) in batch(),
        which in 0usize..8,
        density in 1e-6f64..1.0,
        mean in 1f64..20.0,
        up in any::<bool>(),
        words in any::<bool>(),
        special in any::<bool>(),
        threads in 2usize..5,
    ) {
        let (first, step) = if up { (50, 1) } else { (149, -1) };
        let options = SpanCorruption {
            denoisers: vec![Denoiser {
                noise: law(which, density, mean),
                inputs: Inputs::UniqueSentinels,
                targets: Targets::UniqueSentinels,
                prefix: None,
            }],
            weights: vec![vec![1.0]],
            sentinels: Sentinels { first, step, count: 100, clamp: false },
            input_end: Some(1),
            target_end: Some(1),
            vocab_size: None,
            pad: 0,
            decoder_start: 2,
            word_starts: words.then(|| (0..1000).map(|id| id % 3 != 0).collect()),
            special: if special { vec![201, 333, 777] } else { vec![] },
            longest_input: None,
            longest_target: None,
        };
        let made = corrupt(&ids, &offsets, &options, Level::Scalar, 1);
        for level in LEVELS {
            prop_assert_eq!(&made, &corrupt(&ids, &offsets, &options, level, threads));
        }
        let rows = made.input_lengths.len();
        for row in 0..rows {
            let (width, label_width) = (made.input_ids.len() / rows, made.labels.len() / rows);
            let shown = made.input_lengths[row] as usize;
            let (input, padding) = made.input_ids[row * width..][..width].split_at(shown);
            prop_assert!(padding.iter().all(|id| *id == 0));
            let (ones, zeros) = made.mask[row * width..][..width].split_at(shown);
            prop_assert!(ones.iter().all(|bit| *bit == 1) && zeros.iter().all(|bit| *bit == 0));
            let shown = made.label_lengths[row] as usize;
            let label = &made.labels[row * label_width..][..label_width];
            let decoder = &made.decoder[row * label_width..][..label_width];
            prop_assert_eq!(decoder[0], 2);
            let unpadded = |id: &i64| if *id == -100 { 0 } else { *id };
            prop_assert!(decoder[1..].iter().copied().eq(label[..label_width - 1].iter().map(unpadded)));
            let (label, padding) = label.split_at(shown);
            prop_assert!(padding.iter().all(|id| *id == -100));
            let source: Vec<i64> =
                ids[offsets[row] as usize..offsets[row + 1] as usize].iter().map(|id| i64::from(*id)).collect();
            prop_assert_eq!(restore(input, label, &options.sentinels), source);
            if special {
                prop_assert!(!label.iter().any(|id| options.special.contains(id)) || words);
            }
        }
    }

    #[test]
    fn masks_have_their_exact_count_and_touch_nothing_else(
        (ids, offsets) in batch(),
        probability in 0f64..=1.0,
        threads in 1usize..5,
    ) {
        let special: Vec<i64> = (0..600).collect();
        let options = Masking {
            how_many: Count::Metro, most: None, span_lengths: None, word_starts: None, probability, replace: 0.8, random: 0.1, mask_token: 3, vocab_size: 1000,
            special: special.clone(), random_range: (0, 1000), pad: 0,
        };
        let rows = Rows::ragged(&ids, &offsets).unwrap();
        let (count, width) = (rows.count(), rows.longest());
        let (mut input_ids, mut labels) = (vec![7; count * width], vec![7; count * width]);
        let mut lengths = vec![0; count];
        let names = SampleIds::new(None, count).unwrap();
        let mut before = None;
        for level in LEVELS {
            let output = MaskOutput {
                input_ids: &mut input_ids, labels: &mut labels, attention_mask: None, lengths: &mut lengths,
            };
            let positions = mask_tokens(&rows, &names, &options, (1, 2), level, threads, output).unwrap();
            let made = (positions, input_ids.clone(), labels.clone());
            prop_assert!(before.is_none() || before.as_ref() == Some(&made));
            before = Some(made);
        }
        let positions = before.unwrap().0;
        prop_assert!(positions.is_sorted_by(|a, b| a < b));
        for row in 0..count {
            let span = (row * width) as i64..((row + 1) * width) as i64;
            let eligible = rows.row(row).iter().filter(|id| **id >= 600).count() as f64;
            let masked = positions.iter().filter(|p| span.contains(p)).count() as f64;
            prop_assert!(masked >= (probability * eligible).floor());
            prop_assert!(masked <= (probability * eligible + 1.0).floor().min(eligible));
        }
        for (place, (input, label)) in input_ids.iter().zip(&labels).enumerate() {
            let masked = positions.binary_search(&(place as i64)).is_ok();
            if masked {
                prop_assert!(!special.contains(label));
                prop_assert!(*input == 3 || *input >= 600);
            } else {
                prop_assert!(input == label || (*input, *label) == (0, -100));
            }
        }
    }
}
