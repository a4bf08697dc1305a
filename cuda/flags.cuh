// What a kernel found wrong: the largest code is kept in flags[0], and metro_fast tells it.
#pragma once
#include "types.cuh"

enum Flag : u32 {
    FLAG_OK = 0,
    FLAG_HEADER = 1,      // a packed block's header
    FLAG_INDEX = 2,       // a row of its index
    FLAG_T4 = 3,          // a T4-rANS stream
    FLAG_BITMASK = 4,     // a bitmask stream
    FLAG_NONZEROS = 5,    // a stream's nonzeros are not as many as its index says
    FLAG_PAST_END = 6,    // something that is not zero past the end of a stream
    FLAG_COUNT = 7,       // a block holds another number of trits than was said
    FLAG_LOGITS = 16,     // NaN or +inf in a row
    FLAG_NO_LOGITS = 17,  // a row of -inf alone
    FLAG_SAMPLE_ID = 18,  // a negative sample id
    FLAG_POSITION = 19,   // a position outside 0 to 2^32 - 1
    FLAG_SEED = 20,       // a negative seed or epoch
    FLAG_MASKED = 32,     // masked positions out of range or out of order
    FLAG_PADDING = 33,    // a masked position at padding
    FLAG_SAMPLED = 34,    // a negative sample
    FLAG_EXPERT = 48,     // an expert's number or rank out of range
};

DEVICE void raise(u32* flags, u32 code) { atomicMax(flags, code); }

// Also where: flags[1] keeps the lowest row, and is 2^32 - 1 before.
DEVICE void raise_at(u32* flags, u32 code, u32 row) {
    atomicMax(flags, code);
    atomicMin(flags + 1, row);
}
