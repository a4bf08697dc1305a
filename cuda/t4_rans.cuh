// T4-rANS (docs/expert-format.md, section 5): one warp decodes one stream, and each lane has two of
// its 64 states. State i codes quad 64 r + i of row r, as in the decoders of the CPU, so the bytes
// are the same, and a row takes two stores of 32 adjacent quads.
#pragma once
#include "block.cuh"
#include "t4_tables.cuh"
#include "writer.cuh"

constexpr u32 STATES = 64;
constexpr u32 LOWER = 1u << 16;
constexpr u32 STATE_BYTES = 4 * STATES;

// The numbers of one kind of symbols: frequency, first slot, reciprocal and first symbol.
struct __align__(16) Kind {
    u32 frequency, slot, reciprocal, symbol;
};

__constant__ const u8 KIND_SYMBOLS[5] = {1, 8, 24, 32, 16};

// Fills in the kinds of a density class: each of the first five lanes computes one.
DEVICE void fill_kinds(Kind* kinds, u32 density_class, u32 lane) {
    if (lane >= 5) return;
    u32 slot = 0, symbol = 0;
    for (u32 k = 0; k < lane; k++) {
        slot += KIND_SYMBOLS[k] * T4_FREQUENCIES[density_class][k];
        symbol += KIND_SYMBOLS[k];
    }
    u32 frequency = T4_FREQUENCIES[density_class][lane];
    // x / f = x * reciprocal >> 31 for every slot x < 2^14 (rust/core/src/simd/quads/symbols.rs).
    kinds[lane] = {frequency, slot, (1u << 31) / frequency + 1, symbol};
}

// The two states of a lane, and the place of the next word of the stream.
struct States {
    u32 x0, x1;
    const u16* words;
    u32 word_count, used;
    u32 slot1, slot2, slot3, slot4;
    const Kind* kinds;
    u32 below;  // the lanes below this one
    u32 nonzeros;

    // Decodes the symbols of quads `lane` and 32 + lane of a row. Returns false if the stream has
    // ended.
    DEVICE bool next(u32& symbol_a, u32& symbol_b) {
        u32 a = x0 & 16383, b = x1 & 16383;
        u32 ka = (a >= slot1) + (a >= slot2) + (a >= slot3) + (a >= slot4);
        u32 kb = (b >= slot1) + (b >= slot2) + (b >= slot3) + (b >= slot4);
        Kind of_a = kinds[ka], of_b = kinds[kb];
        u32 da = a - of_a.slot, db = b - of_b.slot;
        u32 ia = __umulhi(2 * da, of_a.reciprocal), ib = __umulhi(2 * db, of_b.reciprocal);
        x0 = of_a.frequency * (x0 >> 14) + (da - ia * of_a.frequency);
        x1 = of_b.frequency * (x1 >> 14) + (db - ib * of_b.frequency);
        // A row takes at most 64 words, or 128 bytes. At least GUARD bytes of the block follow
        // every stream, so words can be read before they are counted.
        bool more = x0 < LOWER;
        u32 takers = __ballot_sync(~0u, more);
        if (more) x0 = x0 << 16 | __ldg(words + used + __popc(takers & below));
        used += __popc(takers);
        more = x1 < LOWER;
        takers = __ballot_sync(~0u, more);
        if (more) x1 = x1 << 16 | __ldg(words + used + __popc(takers & below));
        used += __popc(takers);
        nonzeros += ka + kb;
        symbol_a = ia + of_a.symbol;
        symbol_b = ib + of_b.symbol;
        return used <= word_count;
    }
};

// Decodes a stream; all 32 lanes must call it. `quads` are the quads of the 81 symbols, followed by
// the same quads with inverted signs.
template <typename Format>
DEVICE u32 decode_t4(const Stream& stream, const Kind* kinds, const Quad* quads,
                                         u32 lane, Writer<Format>& writer) {
    typedef typename Format::Bits Bits;
    constexpr u32 TRITS = 4 * STATES, HALF = TRITS / 2 * sizeof(Bits);
    if (stream.len < STATE_BYTES) return FLAG_T4;
    const u32* heads = (const u32*)stream.bytes;
    States states{heads[lane], heads[32 + lane], (const u16*)(stream.bytes + STATE_BYTES),
                  (stream.len - STATE_BYTES) / 2, 0, kinds[1].slot, kinds[2].slot, kinds[3].slot,
                  kinds[4].slot, kinds, (1u << lane) - 1, 0};
    if (__any_sync(~0u, states.x0 < LOWER || states.x1 < LOWER)) return FLAG_T4;
    u32 past = 0, a, b;
    u64 stop = stream.first + stream.trits;
    for (u64 row = stream.first; row < stop;) {
        writer.seek(row);
        u32 rows = writer.whole_rows(row, TRITS, stop);
        u64 place = writer.place(row + 4 * lane);
        if (rows == 0) {
            if (!states.next(a, b)) return FLAG_T4;
            u64 at = row + 4 * lane;
#pragma unroll 1
            for (u32 half = 0; half < 2; half++, at += TRITS / 2) {
                Quad quad = quads[half ? b : a];
                writer.apart(quad, at, stop);
                past |= past_end(quad, at, stop);
            }
            row += TRITS;
        } else if (writer.mode == MODE_WRITE) {
            const Quad* table = quads + (writer.negative() ? 81 : 0);
            u32 keep = writer.keep();
            row += (u64)TRITS * rows;
            for (; rows > 0; rows--, place += 2 * HALF) {
                if (!states.next(a, b)) return FLAG_T4;
                Writer<Format>::write(table[a], place, keep);
                Writer<Format>::write(table[b], place + HALF, keep);
            }
        } else {
            row += (u64)TRITS * rows;
            for (; rows > 0; rows--, place += 2 * HALF) {
                if (!states.next(a, b)) return FLAG_T4;
                Writer<Format>::add(quads[a], place, writer.scale);
                Writer<Format>::add(quads[b], place + HALF, writer.scale);
            }
        }
    }
    if (__any_sync(~0u, past != 0)) return FLAG_PAST_END;
    if (__any_sync(~0u, states.x0 != LOWER || states.x1 != LOWER)) return FLAG_T4;
    u32 nonzeros = states.nonzeros;
    for (u32 step = 16; step > 0; step /= 2) nonzeros += __shfl_xor_sync(~0u, nonzeros, step);
    if (nonzeros != stream.nonzeros) return FLAG_NONZEROS;
    // Fewer than 16 bytes may be left, and all must be zero.
    u32 left = stream.len - STATE_BYTES - 2 * states.used;
    const u8* rest = (const u8*)(states.words + states.used);
    bool odd = lane < left && lane < 16 && rest[lane] != 0;
    return left >= 16 || __any_sync(~0u, odd) ? FLAG_T4 : FLAG_OK;
}
