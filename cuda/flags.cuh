// Errors that kernels find: flags[0] holds the largest code, for which metro_fast raises an error.
#pragma once
#include "types.cuh"

enum Flag : u32 {
    FLAG_OK = 0,
    FLAG_HEADER = 1,      // a packed block's header
    FLAG_INDEX = 2,       // a row of its index
    FLAG_T4 = 3,          // a T4-rANS stream
    FLAG_BITMASK = 4,     // a bitmask stream
    FLAG_NONZEROS = 5,    // a stream does not have as many nonzeros as its index says
    FLAG_PAST_END = 6,    // a trit past the end of a stream is not zero
    FLAG_COUNT = 7,       // a block does not hold the expected number of trits
    FLAG_LOGITS = 16,     // NaN or +inf in a row
    FLAG_NO_LOGITS = 17,  // a row of only -inf
    FLAG_SAMPLE_ID = 18,  // a negative sample id
    FLAG_POSITION = 19,   // a position outside 0 to 2^32 - 1
    FLAG_SEED = 20,       // a negative seed or epoch
    FLAG_TOKEN = 21,      // a forbidden or excluded token outside the vocabulary
    FLAG_MASKED = 32,     // masked positions out of range or out of order
    FLAG_PADDING = 33,    // a masked position at padding
    FLAG_SAMPLED = 34,    // a negative sample
    FLAG_EXPERT = 48,     // an expert's number or rank out of range
};

DEVICE void raise(u32* flags, u32 code) { atomicMax(flags, code); }

// Also records the place: flags[1] holds the lowest row, and is 2^32 - 1 before the launch.
DEVICE void raise_at(u32* flags, u32 code, u32 row) {
    atomicMax(flags, code);
    atomicMin(flags + 1, row);
}
