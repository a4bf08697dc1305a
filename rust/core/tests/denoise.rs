//! Properties of the denoising kernels that hold for every batch and option.

use metro_fast_core::denoise::{
    MaskOutput, Masking, SpanCorruption, SpanOutput, corrupt_spans, mask_tokens, span_widths,
};
use metro_fast_core::rng::{Key, Stream};
use metro_fast_core::tokens::{Rows, SampleIds};
use proptest::collection::vec;
use proptest::prelude::*;

/// Ragged rows of ids 200 to 999, with the offsets of the rows.
fn batch() -> impl Strategy<Value = (Vec<u16>, Vec<i64>)> {
    vec(vec(200u16..1000, 1..90), 1..8).prop_map(|rows| {
        let mut offsets = vec![0];
        for row in &rows {
            offsets.push(offsets[offsets.len() - 1] + row.len() as i64);
        }
        (rows.concat(), offsets)
    })
}

/// The row that a padded input and its padded label came from.
fn restore(input: &[i64], label: &[i64], options: &SpanCorruption) -> Vec<i64> {
    let last = options.sentinel_first + options.sentinel_step * options.num_sentinels as i64;
    let (low, high) = (options.sentinel_first.min(last + 1), options.sentinel_first.max(last - 1));
    let is_sentinel = |id: &i64| (low..=high).contains(id);
    let mut spans = label[..label.len() - 1].split(is_sentinel);
    assert_eq!(spans.next(), Some(&[][..]), "a label starts with a sentinel");
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

fn corrupt(
    ids: &[u16],
    offsets: &[i64],
    options: &SpanCorruption,
    threads: usize,
) -> (Vec<i64>, Vec<i64>, Vec<i64>, Vec<i64>) {
    let rows = Rows::ragged(ids, offsets).unwrap();
    let (width, label_width) = span_widths(&rows, options).unwrap();
    let count = rows.count();
    let (mut input_ids, mut labels) = (vec![7; count * width], vec![7; count * label_width]);
    let (mut input_lengths, mut label_lengths) = (vec![0; count], vec![0; count]);
    let output = SpanOutput {
        input_ids: &mut input_ids,
        labels: &mut labels,
        input_lengths: &mut input_lengths,
        label_lengths: &mut label_lengths,
    };
    let key = Key::new(1, 2, Stream::Spans);
    let names = SampleIds::new(None, count).unwrap();
    corrupt_spans(&rows, &names, options, key, threads, output).unwrap();
    (input_ids, labels, input_lengths, label_lengths)
}

proptest! {
    #[test]
    fn spans_rebuild_their_row_at_any_thread_count(
        (ids, offsets) in batch(),
        noise_density in 0f32..1.0,
        mean_noise_span_length in 1f32..20.0,
        up in any::<bool>(),
        threads in 2usize..5,
    ) {
        let (sentinel_first, sentinel_step) = if up { (50, 1) } else { (149, -1) };
        let options = SpanCorruption {
            noise_density, mean_noise_span_length, sentinel_first, sentinel_step,
            num_sentinels: 100, eos: 1, pad: 0,
        };
        let made = corrupt(&ids, &offsets, &options, 1);
        prop_assert_eq!(&made, &corrupt(&ids, &offsets, &options, threads));
        let (input_ids, labels, input_lengths, label_lengths) = made;
        let rows = input_lengths.len();
        for row in 0..rows {
            let (width, label_width) = (input_ids.len() / rows, labels.len() / rows);
            let (input, padding) = input_ids[row * width..][..width].split_at(input_lengths[row] as usize);
            prop_assert!(padding.iter().all(|id| *id == 0));
            let (label, padding) = labels[row * label_width..][..label_width].split_at(label_lengths[row] as usize);
            prop_assert!(padding.iter().all(|id| *id == -100));
            let source = &ids[offsets[row] as usize..offsets[row + 1] as usize];
            let restored = restore(input, label, &options);
            prop_assert!(restored.iter().eq(source.iter().map(|id| i64::from(*id)).collect::<Vec<_>>().iter()));
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
            probability, replace: 0.8, random: 0.1, mask_token: 3, vocab_size: 1000,
            special: special.clone(), random_range: (0, 1000), pad: 0,
        };
        let rows = Rows::ragged(&ids, &offsets).unwrap();
        let (count, width) = (rows.count(), rows.longest());
        let (mut input_ids, mut labels) = (vec![7; count * width], vec![7; count * width]);
        let mut lengths = vec![0; count];
        let output = MaskOutput { input_ids: &mut input_ids, labels: &mut labels, lengths: &mut lengths };
        let names = SampleIds::new(None, count).unwrap();
        let key = Key::new(1, 2, Stream::Mask);
        let positions = mask_tokens(&rows, &names, &options, key, threads, output).unwrap();
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
