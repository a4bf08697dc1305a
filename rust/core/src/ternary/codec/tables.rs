//! The frozen tables of T4-rANS: symbols of four trits, and the frequencies of each density class.
//!
//! `FREQUENCIES` is part of the file format (docs/expert-format.md, docs/t4-frequencies.csv): it is
//! data, never computed, because two math libraries may round a power differently.

use std::sync::LazyLock;

/// Frequencies sum to `1 << SCALE_BITS` over the 81 symbols.
pub const SCALE_BITS: u32 = 14;
/// Kinds of symbols: a quad has 0 to 4 nonzero trits.
pub const KINDS: usize = 5;
/// Symbols of each kind: binomial(4, k) places times 2^k signs.
pub const KIND_SYMBOLS: [u32; KINDS] = [1, 8, 24, 32, 16];
/// First symbol of each kind.
pub const KIND_FIRST: [u32; KINDS] = [0, 1, 9, 33, 65];
/// All symbols.
pub const SYMBOLS: usize = 81;
/// Density classes.
pub const CLASSES: usize = 256;

/// What the coder needs of one density class.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// Frequency of each symbol of a kind.
    pub frequency: [u32; KINDS],
    /// First slot of each kind; `1 << SCALE_BITS` after the last.
    pub first_slot: [u32; KINDS + 1],
    /// `floor(2^31 / frequency) + 1`: `slot * reciprocal >> 31` is the exact quotient (tested).
    pub reciprocal: [u32; KINDS],
}

/// The class of a row of the frozen table.
pub fn class(index: u8) -> Class {
    let frequency = FREQUENCIES[usize::from(index)].map(u32::from);
    let mut first_slot = [0; KINDS + 1];
    for kind in 0..KINDS {
        first_slot[kind + 1] = first_slot[kind] + frequency[kind] * KIND_SYMBOLS[kind];
    }
    Class { frequency, first_slot, reciprocal: frequency.map(|f| (1 << 31) / f + 1) }
}

/// Keys of the symbols (4 mask bits, 4 sign bits above them), in symbol order.
pub const KEYS: [u8; SYMBOLS] = {
    let mut keys = [0; SYMBOLS];
    let (mut symbol, mut kind) = (0, 0);
    while kind < KINDS {
        let mut key = 0u16;
        while key < 256 {
            let (mask, negative) = (key & 15, key >> 4);
            if negative & !mask == 0 && mask.count_ones() as usize == kind {
                keys[symbol] = key as u8;
                symbol += 1;
            }
            key += 1;
        }
        kind += 1;
    }
    keys
};

/// Symbol of each key; 255 where a byte is no key.
pub const SYMBOL_OF_KEY: [u8; 256] = {
    let mut symbols = [255; 256];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        symbols[KEYS[symbol] as usize] = symbol as u8;
        symbol += 1;
    }
    symbols
};

/// Number of nonzero trits of each symbol; 0 where a byte is none, so that no bound is checked.
pub const KIND_OF: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        kinds[symbol] = (KEYS[symbol] & 15).count_ones() as u8;
        symbol += 1;
    }
    kinds
};

/// The class that codes quads with these numbers of nonzero trits in the fewest bits, and the bits.
///
/// Costs are integers, so every machine makes the same file; of equal classes the first is taken.
pub fn best_class(kinds: &[u64; KINDS]) -> (u8, u64) {
    // Streams have at most 2^18 quads of at most 14 bits: no overflow.
    let cost = |costs: &[u32; KINDS]| -> u64 {
        costs.iter().zip(kinds).map(|(cost, count)| u64::from(*cost) * count).sum()
    };
    let best = COSTS.iter().map(cost).enumerate().min_by_key(|(_, cost)| *cost);
    best.map_or((0, 0), |(index, cost)| (index as u8, cost >> 16))
}

/// Bits of a symbol of each kind under each class, in units of 2^-16.
static COSTS: LazyLock<[[u32; KINDS]; CLASSES]> =
    LazyLock::new(|| FREQUENCIES.map(|row| row.map(|f| (SCALE_BITS << 16) - log2_fixed(f.into()))));

/// `floor(2^16 log2(x))` by repeated squaring in integers, up to the truncation of 32 bits.
fn log2_fixed(x: u32) -> u32 {
    let whole = x.ilog2();
    let mut mantissa = u64::from(x) << (31 - whole);
    let mut result = whole;
    for _ in 0..16 {
        mantissa = (mantissa * mantissa) >> 31;
        let carry = mantissa >> 32;
        mantissa >>= carry;
        result = result << 1 | carry as u32;
    }
    result
}

/// Frequency of a symbol with 0, 1, 2, 3, 4 nonzero trits, by density class.
#[rustfmt::skip]
pub const FREQUENCIES: [[u16; KINDS]; CLASSES] = [
    [16304, 1, 1, 1, 1],
    [16304, 1, 1, 1, 1],
    [16304, 1, 1, 1, 1],
    [16304, 1, 1, 1, 1],
    [16296, 2, 1, 1, 1],
    [16288, 3, 1, 1, 1],
    [16272, 5, 1, 1, 1],
    [16256, 7, 1, 1, 1],
    [16240, 9, 1, 1, 1],
    [16224, 11, 1, 1, 1],
    [16208, 13, 1, 1, 1],
    [16184, 16, 1, 1, 1],
    [16160, 19, 1, 1, 1],
    [16136, 22, 1, 1, 1],
    [16104, 26, 1, 1, 1],
    [16080, 29, 1, 1, 1],
    [16048, 33, 1, 1, 1],
    [16016, 37, 1, 1, 1],
    [15976, 42, 1, 1, 1],
    [15944, 46, 1, 1, 1],
    [15904, 51, 1, 1, 1],
    [15864, 56, 1, 1, 1],
    [15824, 61, 1, 1, 1],
    [15776, 67, 1, 1, 1],
    [15736, 72, 1, 1, 1],
    [15688, 78, 1, 1, 1],
    [15640, 84, 1, 1, 1],
    [15584, 91, 1, 1, 1],
    [15536, 97, 1, 1, 1],
    [15480, 104, 1, 1, 1],
    [15424, 111, 1, 1, 1],
    [15368, 118, 1, 1, 1],
    [15312, 125, 1, 1, 1],
    [15248, 133, 1, 1, 1],
    [15192, 140, 1, 1, 1],
    [15128, 148, 1, 1, 1],
    [15064, 156, 1, 1, 1],
    [15000, 164, 1, 1, 1],
    [14912, 172, 2, 1, 1],
    [14840, 181, 2, 1, 1],
    [14768, 190, 2, 1, 1],
    [14704, 198, 2, 1, 1],
    [14632, 207, 2, 1, 1],
    [14536, 216, 3, 1, 1],
    [14464, 225, 3, 1, 1],
    [14384, 235, 3, 1, 1],
    [14288, 244, 4, 1, 1],
    [14216, 253, 4, 1, 1],
    [14136, 263, 4, 1, 1],
    [14032, 273, 5, 1, 1],
    [13960, 282, 5, 1, 1],
    [13856, 292, 6, 1, 1],
    [13776, 302, 6, 1, 1],
    [13672, 312, 7, 1, 1],
    [13592, 322, 7, 1, 1],
    [13488, 332, 8, 1, 1],
    [13400, 343, 8, 1, 1],
    [13296, 353, 9, 1, 1],
    [13192, 363, 10, 1, 1],
    [13104, 374, 10, 1, 1],
    [13000, 384, 11, 1, 1],
    [12888, 395, 12, 1, 1],
    [12800, 406, 12, 1, 1],
    [12696, 416, 13, 1, 1],
    [12584, 427, 14, 1, 1],
    [12480, 437, 15, 1, 1],
    [12376, 447, 16, 1, 1],
    [12264, 458, 17, 1, 1],
    [12152, 469, 18, 1, 1],
    [12048, 479, 19, 1, 1],
    [11936, 490, 20, 1, 1],
    [11832, 500, 21, 1, 1],
    [11720, 511, 22, 1, 1],
    [11616, 521, 23, 1, 1],
    [11504, 532, 24, 1, 1],
    [11392, 543, 25, 1, 1],
    [11272, 552, 27, 1, 1],
    [11160, 563, 28, 1, 1],
    [11040, 572, 30, 1, 1],
    [10928, 583, 31, 1, 1],
    [10808, 592, 33, 1, 1],
    [10688, 603, 33, 2, 1],
    [10568, 612, 35, 2, 1],
    [10448, 621, 37, 2, 1],
    [10336, 632, 38, 2, 1],
    [10216, 641, 40, 2, 1],
    [10088, 650, 41, 3, 1],
    [9968, 659, 43, 3, 1],
    [9848, 668, 45, 3, 1],
    [9728, 677, 47, 3, 1],
    [9608, 686, 49, 3, 1],
    [9488, 694, 50, 4, 1],
    [9368, 703, 52, 4, 1],
    [9248, 712, 54, 4, 1],
    [9120, 719, 57, 4, 1],
    [9000, 727, 58, 5, 1],
    [8888, 735, 60, 5, 1],
    [8760, 742, 63, 5, 1],
    [8640, 751, 65, 5, 1],
    [8512, 757, 67, 6, 1],
    [8400, 765, 69, 6, 1],
    [8272, 771, 71, 7, 1],
    [8152, 777, 74, 7, 1],
    [8024, 784, 77, 7, 1],
    [7912, 791, 78, 8, 1],
    [7792, 797, 81, 8, 1],
    [7672, 802, 83, 9, 1],
    [7552, 808, 86, 9, 1],
    [7432, 813, 88, 10, 1],
    [7304, 817, 92, 10, 1],
    [7184, 822, 94, 11, 1],
    [7072, 827, 97, 11, 1],
    [6952, 832, 99, 12, 1],
    [6832, 836, 102, 12, 2],
    [6712, 838, 105, 13, 2],
    [6600, 842, 107, 14, 2],
    [6488, 847, 110, 14, 2],
    [6368, 849, 113, 15, 2],
    [6248, 851, 116, 16, 2],
    [6136, 855, 118, 17, 2],
    [6016, 856, 122, 17, 3],
    [5912, 859, 124, 18, 3],
    [5800, 860, 127, 19, 3],
    [5680, 862, 130, 20, 3],
    [5568, 863, 133, 21, 3],
    [5464, 863, 136, 22, 3],
    [5360, 865, 139, 22, 4],
    [5240, 864, 143, 23, 4],
    [5136, 864, 146, 24, 4],
    [5024, 864, 148, 26, 4],
    [4920, 863, 152, 26, 5],
    [4816, 862, 154, 28, 5],
    [4712, 862, 157, 29, 5],
    [4608, 860, 160, 30, 6],
    [4512, 859, 163, 31, 6],
    [4408, 856, 167, 32, 6],
    [4304, 853, 169, 34, 7],
    [4208, 852, 172, 35, 7],
    [4112, 849, 175, 36, 8],
    [4008, 845, 178, 38, 8],
    [3920, 843, 181, 39, 8],
    [3824, 840, 184, 40, 9],
    [3728, 835, 187, 42, 9],
    [3632, 832, 190, 43, 10],
    [3536, 825, 193, 45, 11],
    [3448, 822, 195, 47, 11],
    [3352, 816, 199, 48, 12],
    [3272, 812, 201, 50, 12],
    [3176, 805, 204, 52, 13],
    [3096, 800, 207, 53, 14],
    [3016, 794, 209, 55, 15],
    [2928, 788, 212, 57, 15],
    [2840, 780, 215, 59, 16],
    [2760, 774, 217, 61, 17],
    [2680, 768, 219, 63, 18],
    [2600, 759, 222, 65, 19],
    [2528, 752, 224, 67, 20],
    [2448, 746, 226, 69, 21],
    [2376, 736, 229, 71, 22],
    [2304, 729, 231, 73, 23],
    [2232, 722, 233, 75, 24],
    [2160, 713, 235, 77, 26],
    [2088, 702, 237, 80, 27],
    [2016, 695, 239, 82, 28],
    [1952, 684, 240, 85, 30],
    [1888, 676, 242, 87, 31],
    [1824, 666, 244, 89, 33],
    [1760, 657, 245, 92, 34],
    [1696, 647, 247, 94, 36],
    [1632, 636, 248, 97, 38],
    [1576, 628, 249, 99, 40],
    [1520, 616, 250, 102, 42],
    [1456, 605, 251, 105, 44],
    [1400, 594, 253, 107, 46],
    [1352, 584, 253, 110, 48],
    [1304, 575, 254, 112, 50],
    [1248, 563, 255, 115, 52],
    [1192, 552, 255, 118, 55],
    [1152, 541, 255, 121, 57],
    [1096, 530, 255, 124, 60],
    [1056, 518, 256, 126, 63],
    [1008, 508, 256, 129, 65],
    [960, 496, 256, 132, 68],
    [920, 486, 255, 135, 71],
    [880, 473, 255, 138, 74],
    [840, 461, 254, 141, 78],
    [800, 452, 254, 143, 81],
    [760, 440, 253, 146, 85],
    [728, 427, 252, 149, 89],
    [688, 417, 251, 152, 92],
    [656, 404, 250, 155, 96],
    [616, 392, 249, 158, 100],
    [584, 380, 247, 161, 105],
    [560, 369, 245, 164, 109],
    [528, 358, 244, 166, 114],
    [496, 346, 242, 169, 119],
    [472, 335, 240, 172, 123],
    [440, 323, 238, 175, 128],
    [416, 312, 236, 177, 134],
    [392, 302, 233, 180, 139],
    [368, 290, 230, 183, 145],
    [344, 279, 228, 185, 151],
    [328, 269, 224, 188, 157],
    [304, 258, 222, 190, 163],
    [288, 250, 218, 192, 170],
    [264, 238, 215, 195, 176],
    [248, 227, 212, 197, 183],
    [232, 217, 208, 199, 191],
    [216, 209, 204, 201, 198],
    [200, 199, 200, 203, 206],
    [184, 189, 196, 205, 214],
    [168, 179, 192, 207, 222],
    [160, 170, 188, 208, 231],
    [144, 161, 183, 210, 240],
    [136, 152, 179, 211, 249],
    [120, 144, 175, 212, 258],
    [112, 136, 170, 213, 268],
    [104, 128, 165, 214, 278],
    [96, 120, 160, 215, 288],
    [88, 112, 155, 215, 300],
    [80, 104, 150, 216, 310],
    [72, 98, 145, 216, 321],
    [64, 90, 140, 216, 333],
    [56, 85, 134, 216, 345],
    [48, 79, 129, 215, 358],
    [48, 72, 124, 214, 371],
    [40, 67, 118, 213, 385],
    [32, 61, 113, 212, 398],
    [32, 55, 107, 211, 412],
    [32, 50, 102, 208, 428],
    [24, 45, 96, 207, 442],
    [24, 42, 91, 204, 457],
    [16, 36, 86, 201, 474],
    [16, 32, 80, 198, 491],
    [16, 29, 75, 194, 508],
    [16, 25, 69, 191, 525],
    [8, 23, 64, 186, 544],
    [8, 20, 59, 182, 561],
    [8, 17, 54, 176, 582],
    [8, 14, 49, 171, 601],
    [8, 13, 44, 165, 621],
    [8, 10, 39, 159, 642],
    [8, 8, 35, 152, 663],
    [8, 7, 30, 144, 687],
    [8, 5, 26, 136, 710],
    [8, 5, 22, 128, 732],
    [8, 4, 19, 118, 757],
    [8, 2, 15, 109, 782],
    [8, 3, 12, 98, 808],
    [8, 2, 9, 88, 833],
    [8, 2, 7, 76, 860],
    [8, 1, 4, 64, 889],
    [8, 1, 2, 51, 918],
    [8, 1, 2, 37, 946],
    [8, 2, 1, 23, 975],
    [8, 2, 1, 7, 1007],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_published_one() {
        let csv = include_str!("../../../../../docs/t4-frequencies.csv");
        let mut lines = csv.lines();
        assert_eq!(lines.next(), Some("class,f0,f1,f2,f3,f4"));
        for (index, row) in FREQUENCIES.iter().enumerate() {
            let [a, b, c, d, e] = row;
            assert_eq!(lines.next(), Some(format!("{index},{a},{b},{c},{d},{e}").as_str()));
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn frequencies_fill_the_slots_and_division_by_multiplication_is_exact() {
        for index in 0..=255 {
            let class = class(index);
            assert_eq!(class.first_slot[KINDS], 1 << SCALE_BITS);
            for (kind, symbols) in KIND_SYMBOLS.iter().enumerate() {
                let f = class.frequency[kind];
                assert!(f >= 1);
                for q in 0..f * symbols {
                    let product = u64::from(q) * u64::from(class.reciprocal[kind]);
                    assert_eq!((product >> 31) as u32, q / f);
                }
            }
        }
    }

    #[test]
    fn symbols_are_ordered_by_kind_then_key() {
        assert_eq!(KEYS[..9], [0, 1, 2, 4, 8, 0x11, 0x22, 0x44, 0x88]);
        for symbol in 0..SYMBOLS as u8 {
            let key = KEYS[usize::from(symbol)];
            assert_eq!(SYMBOL_OF_KEY[usize::from(key)], symbol);
            let kind = (key & 15).count_ones();
            assert_eq!(u32::from(KIND_OF[usize::from(symbol)]), kind);
            assert!(u32::from(symbol) >= KIND_FIRST[kind as usize]);
        }
    }

    #[test]
    fn fixed_point_logarithm() {
        for x in [1u32, 2, 3, 93, 688, 16304, 16384] {
            let exact = f64::from(x).log2() * 65536.0;
            assert!((exact - f64::from(log2_fixed(x))).abs() <= 1.5, "{x}");
        }
    }

    #[test]
    fn the_best_class_is_the_cheapest() {
        assert_eq!(best_class(&[1000, 0, 0, 0, 0]).0, 0);
        assert_eq!(best_class(&[0, 0, 0, 0, 10]).0, 255);
        // Quads of i.i.d. trits at density 0.2: ((class + 0.5) / 256)^2 = 0.2 at class 114.0.
        assert_eq!(best_class(&[4096, 4096, 1536, 256, 16]).0, 114);
    }
}
