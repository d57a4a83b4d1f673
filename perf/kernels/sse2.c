/* SSE2: packed integers (a blend of pictures), packed doubles (a dot product), scalar doubles. */
#define _MM_MALLOC_H_INCLUDED /* it wants a C library */
#include <emmintrin.h>

#include "runtime.h"

enum { SIZE = 4096, ROUNDS = 12500 };

const char kernel_name[] = "sse2";
static uint8_t front[SIZE] __attribute__((aligned(16))), back[SIZE] __attribute__((aligned(16)));
static uint8_t out[SIZE] __attribute__((aligned(16)));
static double xs[SIZE / 8] __attribute__((aligned(16))), ys[SIZE / 8] __attribute__((aligned(16)));

static void blend(uint32_t alpha)
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i a = _mm_set1_epi16(alpha), b = _mm_set1_epi16(256 - alpha);
    for (int n = 0; n < SIZE; n += 16) {
        __m128i f = _mm_load_si128((const __m128i *)(front + n)), g = _mm_load_si128((const __m128i *)(back + n));
        __m128i low = _mm_add_epi16(_mm_mullo_epi16(_mm_unpacklo_epi8(f, zero), a),
                                    _mm_mullo_epi16(_mm_unpacklo_epi8(g, zero), b));
        __m128i high = _mm_add_epi16(_mm_mullo_epi16(_mm_unpackhi_epi8(f, zero), a),
                                     _mm_mullo_epi16(_mm_unpackhi_epi8(g, zero), b));
        low = _mm_srli_epi16(low, 8);
        high = _mm_srli_epi16(high, 8);
        _mm_store_si128((__m128i *)(out + n), _mm_xor_si128(_mm_packus_epi16(low, high), _mm_avg_epu8(f, g)));
    }
}

static double dot(void)
{
    __m128d total = _mm_setzero_pd();
    for (int n = 0; n < SIZE / 8; n += 2)
        total = _mm_add_pd(total, _mm_mul_pd(_mm_load_pd(xs + n), _mm_load_pd(ys + n)));
    return _mm_cvtsd_f64(_mm_add_sd(total, _mm_unpackhi_pd(total, total)));
}

uint32_t kernel(void)
{
    uint32_t sum = 0, state = 362436069u;
    for (int n = 0; n < SIZE; n++) {
        front[n] = next_random(&state);
        back[n] = next_random(&state);
    }
    for (int n = 0; n < SIZE / 8; n++) {
        xs[n] = (double)(int32_t)(front[n] + 1);
        ys[n] = 1.0 / (double)(int32_t)(back[n] + 1);
    }
    for (int round = 0; round < ROUNDS; round++) {
        blend(round * 4 & 0xFF);
        sum = mix(sum, *(uint32_t *)(out + (round * 52 & 0xFFC)));
        double product = dot();
        xs[round % (SIZE / 8)] = product / 1024.0;
        sum = mix(sum, (uint32_t)(int32_t)(product * 16.0));
    }
    return sum;
}
