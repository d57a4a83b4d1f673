/* Integer matrix multiplication: IMUL and strided loads in a triple loop. */
#include "runtime.h"

enum { SIZE = 48, ROUNDS = 1500 };

const char kernel_name[] = "matrix";
static int32_t a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

uint32_t kernel(void)
{
    uint32_t sum = 0, state = 88172645u;
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = next_random(&state) & 0xFFFF;
            b[i][j] = next_random(&state) & 0xFFFF;
        }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                uint32_t total = 0;
                for (int k = 0; k < SIZE; k++)
                    total += (uint32_t)a[i][k] * (uint32_t)b[k][j];
                c[i][j] = total;
            }
        a[round % SIZE][(round * 7) % SIZE] ^= c[round % SIZE][round % 13] & 0xFF;
        sum = mix(sum, c[round % SIZE][(round * 3) % SIZE]);
    }
    return sum;
}
