// Integers of fixed width, and the three float formats as bits.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef int i32;
typedef long long i64;

// Every function is inlined into its kernel, because a call would cost registers.
#define DEVICE __device__ __forceinline__

// A float format: the type of its bits, and the conversions from and to float32. They use only
// integer arithmetic and exact products, so that the host gets the same bits from the same text.
struct F32 {
    typedef u32 Bits;
    DEVICE static float read(u32 bits) { return __uint_as_float(bits); }
    DEVICE static u32 round(float value) { return __float_as_uint(value); }
};

struct BF16 {
    typedef u16 Bits;
    DEVICE static float read(u16 bits) { return __uint_as_float((u32)bits << 16); }
    // Rounds to nearest, ties to even; a NaN stays a NaN.
    DEVICE static u16 round(float value) {
        u32 bits = __float_as_uint(value);
        if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (u16)(bits >> 16 | 0x40);
        return (u16)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
    }
};

struct F16 {
    typedef u16 Bits;
    // The fields are moved to their places in float32; multiplying by 2^112 corrects the bias of
    // the exponent, also for subnormals (rust/core/src/replace/logits.rs).
    DEVICE static float read(u16 half) {
        float magnitude = __uint_as_float((u32)(half & 0x7FFF) << 13) * __uint_as_float(239u << 23);
        u32 infinite = (half & 0x7C00) == 0x7C00 ? 0x7F800000u : 0;
        return __uint_as_float(__float_as_uint(magnitude) | infinite | (u32)(half & 0x8000) << 16);
    }
    // Rounds to nearest, ties to even; 65520 and above become infinity; a NaN stays a NaN.
    DEVICE static u16 round(float value) {
        u32 bits = __float_as_uint(value), sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFFu;
        if (size > 0x7F800000u) return (u16)(sign | 0x7E00);
        if (size >= 0x477FF000u) return (u16)(sign | 0x7C00);
        if (size < 0x38800000u) {  // below 2^-14: units of 2^-24
            if (size < 0x33000000u) return (u16)sign;
            u32 shift = 126 - (size >> 23), mantissa = (size & 0x7FFFFFu) | 0x800000u;
            u32 kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1);
            u32 tie = 1u << (shift - 1);
            return (u16)(sign | (kept + (rest > tie || (rest == tie && (kept & 1)))));
        }
        return (u16)(sign | ((size - 0x38000000u + 0xFFFu + (size >> 13 & 1)) >> 13));
    }
};

// Declares dynamic shared memory with a name; the emulator of the host has its own definition.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ uint4 name##_words[]; u8* name = (u8*)name##_words
#endif
