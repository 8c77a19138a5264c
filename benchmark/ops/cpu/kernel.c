/* Multi-scale deformable attention on a CPU; compiled on first use by build.py, once per REAL (float, double).

   Rows of a table hold the channels of one pixel and head, padded to whole vectors. A unit of work is one image
   and head (backward) or a run of its queries (forward). One unit writes what no other writes, and the order of
   sums inside it is fixed, so the bits do not depend on the number of threads. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Bytes of a vector: those of a register, because GCC splits longer ones through memory. */
#if defined __AVX512F__
#define VECTOR 64
#elif defined __AVX__
#define VECTOR 32
#else
#define VECTOR 16
#endif

#ifdef DOUBLE
#define REAL double
#define INT int64_t /* as wide as REAL, so that both fill the same vectors */
#define LANES (VECTOR / 8)
#else
#define REAL float
#define INT int32_t
#define LANES (VECTOR / 4)
#endif

#define HALF ((REAL)0.5)
#define WIDEST 4 /* vectors of one row that registers hold at once */
#define AHEAD 8  /* queries between the prefetch of a row of grad_output and its use */
#define INLINE static inline __attribute__((always_inline))
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE __builtin_shufflevector
#endif
#endif

typedef REAL vec __attribute__((vector_size(VECTOR), may_alias));
typedef INT ivec __attribute__((vector_size(VECTOR), may_alias));
typedef REAL loose __attribute__((vector_size(VECTOR), aligned(sizeof(REAL)), may_alias)); /* at any address */
typedef REAL four __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

typedef struct {
    const REAL *table;       /* value: pixel s of image b and head m starts at b * image + m * head + s * row */
    const REAL *locations;   /* (B, Lq, M, L * P, 2) as (x, y) */
    const REAL *weights;     /* (B, Lq, M, L * P) */
    const REAL *grad_output; /* (B, Lq, M, channels); backward only */
    REAL *output;            /* (B, Lq, M, channels); forward only */
    REAL *grad_table;        /* laid out as table; backward only */
    REAL *grad_locations, *grad_weights;
    const int64_t *shapes; /* (H, W) of each level */
    int64_t batch, length, heads, channels, queries, levels, points;
    int64_t image, head, row; /* strides of table, in elements */
    int64_t run;              /* queries in a unit of forward */
} Problem;

typedef struct {
    const Problem *problem;
    int64_t units, next;
    int backward;
} Job;

/* What is known about the samples of some queries; every array has one entry per sample. */
typedef struct {
    REAL *x, *y, *wide, *high, *attention; /* wide, high: W and H of the sample's level */
    REAL *corner[4];                       /* bilinear factors of (y0,x0) (y0,x1) (y1,x0) (y1,x1) */
    REAL *dots[4];                         /* products of the corners' rows with grad_output */
    REAL *across, *down;                   /* fractional parts of x and y */
    INT *pixel[4];                         /* of the corner, -1 outside */
    INT *width, *first;                    /* W and first pixel of the sample's level */
    REAL *zeros, *bin;                     /* rows read and written in place of those outside */
    int64_t queries, each;                 /* queries of a block, samples of a query */
    char *memory;
} Block;

static int open_block(Block *k, const Problem *p) {
    k->each = p->levels * p->points;
    k->queries = k->each < 256 ? 256 / k->each : 1;
    int64_t n = (k->queries * k->each + 15) / 16 * 16, rows = p->channels;
    size_t bytes = sizeof(REAL) * (size_t)(21 * n + 2 * rows);
    if (posix_memalign((void **)&k->memory, 64, bytes)) return 0;
    memset(k->memory, 0, bytes);
    REAL *real = (REAL *)k->memory;
    REAL **arrays[] = {&k->wide, &k->high, &k->attention, &k->across, &k->down, &k->corner[0], &k->corner[1],
                       &k->corner[2], &k->corner[3]};
    for (int i = 0; i < 9; i++, real += n) *arrays[i] = real;
    k->x = real, k->y = real + n, k->zeros = real + 6 * n, k->bin = k->zeros + rows;
    for (int c = 0; c < 4; c++) k->dots[c] = real + (2 + c) * n;
    INT *whole = (INT *)(k->bin + rows);
    for (int c = 0; c < 4; c++, whole += n) k->pixel[c] = whole;
    k->width = whole, k->first = whole + n;
    int64_t start = 0, i = 0;
    for (int64_t l = 0; l < p->levels; start += p->shapes[2 * l] * p->shapes[2 * l + 1], l++)
        for (int64_t q = 0; q < p->points; q++, i++) {
            k->high[i] = (REAL)p->shapes[2 * l], k->wide[i] = (REAL)p->shapes[2 * l + 1];
            k->width[i] = (INT)p->shapes[2 * l + 1], k->first[i] = (INT)start;
        }
    for (int64_t j = 0; i < k->queries * k->each; i++, j++)
        k->high[i] = k->high[j], k->wide[i] = k->wide[j], k->width[i] = k->width[j], k->first[i] = k->first[j];
    return 1;
}

/* Copy the locations and weights of n queries from q on into the block, where their samples are neighbours. */
static void collect(Block *k, const Problem *p, int64_t b, int64_t m, int64_t q, int64_t n) {
    const int64_t each = k->each, step = p->heads * each, at = ((b * p->queries + q) * p->heads + m) * each;
    const REAL *xy = p->locations + 2 * at, *a = p->weights + at;
    REAL *x = k->x, *y = k->y, *attention = k->attention;
    for (; n > 0; n--, xy += 2 * step, a += step, x += each, y += each, attention += each) {
        int64_t j = 0;
        for (; j + 4 <= each; j += 4) {
            const four left = *(const four *)(xy + 2 * j), right = *(const four *)(xy + 2 * j + 4);
            *(four *)(x + j) = (four){left[0], left[2], right[0], right[2]};
            *(four *)(y + j) = (four){left[1], left[3], right[1], right[3]};
            *(four *)(attention + j) = *(const four *)(a + j);
        }
        for (; j < each; j++) x[j] = xy[2 * j], y[j] = xy[2 * j + 1], attention[j] = a[j];
    }
}

/* floor of what fits an integer */
INLINE vec whole_part(vec x) {
    const vec cut = __builtin_convertvector(__builtin_convertvector(x, ivec), vec);
    return cut + __builtin_convertvector(cut > x, vec); /* a true comparison is -1 */
}

/* Corners of the block's samples. */
static void locate(Block *k, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) {
        const vec w = *(vec *)(k->wide + i), h = *(vec *)(k->high + i);
        const vec x = *(vec *)(k->x + i) * w - HALF, y = *(vec *)(k->y + i) * h - HALF;
        /* the range is tested before the cast to an integer, and NaN fails the test */
        const ivec inside = (x > -1) & (y > -1) & (x < w) & (y < h);
        const vec xs = (vec)((ivec)x & inside), ys = (vec)((ivec)y & inside);
        const vec left = whole_part(xs), top = whole_part(ys), dx = xs - left, dy = ys - top;
        const ivec width = *(ivec *)(k->width + i);
        const ivec at = *(ivec *)(k->first + i) + __builtin_convertvector(top, ivec) * width +
                        __builtin_convertvector(left, ivec);
        const ivec no_left = ~inside | (left < 0), no_right = ~inside | (left + 1 >= w);
        const ivec no_top = top < 0, no_bottom = top + 1 >= h;
        *(vec *)(k->across + i) = dx, *(vec *)(k->down + i) = dy;
        *(vec *)(k->corner[0] + i) = (1 - dy) * (1 - dx), *(vec *)(k->corner[1] + i) = (1 - dy) * dx;
        *(vec *)(k->corner[2] + i) = dy * (1 - dx), *(vec *)(k->corner[3] + i) = dy * dx;
        *(ivec *)(k->pixel[0] + i) = at | no_left | no_top;
        *(ivec *)(k->pixel[1] + i) = (at + 1) | no_right | no_top;
        *(ivec *)(k->pixel[2] + i) = (at + width) | no_left | no_bottom;
        *(ivec *)(k->pixel[3] + i) = (at + width + 1) | no_right | no_bottom;
    }
}

/* One query, `vectors` vectors of channels. */
INLINE void gather(const Block *k, const REAL *base, int64_t row, int64_t from, REAL *out, const int vectors) {
    vec even[WIDEST], odd[WIDEST];
    for (int v = 0; v < vectors; v++) even[v] = odd[v] = (vec){0};
    for (int64_t i = from; i < from + k->each; i++) {
        const loose *r[4];
        REAL factor[4];
        for (int c = 0; c < 4; c++) {
            const int64_t pixel = k->pixel[c][i];
            r[c] = (const loose *)(pixel < 0 ? k->zeros : base + pixel * row);
            factor[c] = k->attention[i] * k->corner[c][i];
        }
        for (int v = 0; v < vectors; v++) {
            even[v] += factor[0] * r[0][v], odd[v] += factor[1] * r[1][v];
            even[v] += factor[2] * r[2][v], odd[v] += factor[3] * r[3][v];
        }
    }
    for (int v = 0; v < vectors; v++) ((loose *)out)[v] = even[v] + odd[v];
}

/* Sums of the lanes of four vectors, always in the same order: halves are added until one lane of each is left. */
INLINE four sums(const vec *d) {
#if defined SHUFFLE && LANES == 16
    const vec ab = SHUFFLE(d[0], d[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                   SHUFFLE(d[0], d[1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    const vec cd = SHUFFLE(d[2], d[3], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                   SHUFFLE(d[2], d[3], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    vec s = SHUFFLE(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
            SHUFFLE(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    s += SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    s += SHUFFLE(s, s, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return (four){s[0], s[4], s[8], s[12]};
#elif defined SHUFFLE && LANES == 8
    const vec ab = SHUFFLE(d[0], d[1], 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(d[0], d[1], 4, 5, 6, 7, 12, 13, 14, 15);
    const vec cd = SHUFFLE(d[2], d[3], 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(d[2], d[3], 4, 5, 6, 7, 12, 13, 14, 15);
    vec s = SHUFFLE(ab, cd, 0, 1, 4, 5, 8, 9, 12, 13) + SHUFFLE(ab, cd, 2, 3, 6, 7, 10, 11, 14, 15);
    s += SHUFFLE(s, s, 1, 0, 3, 2, 5, 4, 7, 6);
    return (four){s[0], s[2], s[4], s[6]};
#elif defined SHUFFLE && LANES == 4
    const vec ab = SHUFFLE(d[0], d[1], 0, 1, 4, 5) + SHUFFLE(d[0], d[1], 2, 3, 6, 7);
    const vec cd = SHUFFLE(d[2], d[3], 0, 1, 4, 5) + SHUFFLE(d[2], d[3], 2, 3, 6, 7);
    return (four)(SHUFFLE(ab, cd, 0, 2, 4, 6) + SHUFFLE(ab, cd, 1, 3, 5, 7));
#else
    four out;
    for (int c = 0; c < 4; c++) {
        vec part = d[c];
        for (int half = LANES / 2; half > 0; half /= 2)
            for (int i = 0; i < half; i++) part[i] += part[i + half];
        out[c] = part[0];
    }
    return out;
#endif
}

/* One query: adds to the corners' dot products with grad_output, and to the rows of the gradient. */
INLINE void scatter(Block *k, const REAL *base, REAL *grads, int64_t row, int64_t from, const REAL *grad,
                    const int vectors) {
    vec g[WIDEST], dots[4];
    for (int v = 0; v < vectors; v++) g[v] = ((const loose *)grad)[v];
    for (int64_t i = from; i < from + k->each; i++) {
        for (int c = 0; c < 4; c++) {
            const int64_t pixel = k->pixel[c][i];
            const loose *r = (const loose *)(pixel < 0 ? k->zeros : base + pixel * row);
            loose *out = (loose *)(pixel < 0 ? k->bin : grads + pixel * row);
            const REAL factor = k->attention[i] * k->corner[c][i];
            dots[c] = g[0] * r[0];
            out[0] += factor * g[0];
            for (int v = 1; v < vectors; v++) dots[c] += g[v] * r[v], out[v] += factor * g[v];
        }
        const four total = sums(dots);
        for (int c = 0; c < 4; c++) k->dots[c][i] += total[c];
    }
}

/* Gradients of the block's locations and weights, in place of both. */
static void differentiate(Block *k, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) {
        const vec d0 = *(vec *)(k->dots[0] + i), d1 = *(vec *)(k->dots[1] + i);
        const vec d2 = *(vec *)(k->dots[2] + i), d3 = *(vec *)(k->dots[3] + i);
        const vec dx = *(vec *)(k->across + i), dy = *(vec *)(k->down + i), a = *(vec *)(k->attention + i);
        const ivec inside = (*(ivec *)(k->pixel[0] + i) & *(ivec *)(k->pixel[1] + i) & *(ivec *)(k->pixel[2] + i) &
                             *(ivec *)(k->pixel[3] + i)) >= 0;
        const vec top = (1 - dx) * d0 + dx * d1, bottom = (1 - dx) * d2 + dx * d3;
        const vec along_x = (1 - dy) * (d1 - d0) + dy * (d3 - d2);
        *(vec *)(k->x + i) = (vec)((ivec)(a * *(vec *)(k->wide + i) * along_x) & inside);
        *(vec *)(k->y + i) = (vec)((ivec)(a * *(vec *)(k->high + i) * (bottom - top)) & inside);
        *(vec *)(k->attention + i) = (vec)((ivec)((1 - dy) * top + dy * bottom) & inside);
    }
}

/* The reverse of collect. */
static void hand_out(const Block *k, const Problem *p, int64_t b, int64_t m, int64_t q, int64_t n) {
    const int64_t each = k->each, step = p->heads * each, at = ((b * p->queries + q) * p->heads + m) * each;
    REAL *xy = p->grad_locations + 2 * at, *a = p->grad_weights + at;
    const REAL *x = k->x, *y = k->y, *attention = k->attention;
    for (; n > 0; n--, xy += 2 * step, a += step, x += each, y += each, attention += each) {
        int64_t j = 0;
        for (; j + 4 <= each; j += 4) {
            const four xs = *(const four *)(x + j), ys = *(const four *)(y + j);
            *(four *)(xy + 2 * j) = (four){xs[0], ys[0], xs[1], ys[1]};
            *(four *)(xy + 2 * j + 4) = (four){xs[2], ys[2], xs[3], ys[3]};
            *(four *)(a + j) = *(const four *)(attention + j);
        }
        for (; j < each; j++) xy[2 * j] = x[j], xy[2 * j + 1] = y[j], a[j] = attention[j];
    }
}

static void forward(Block *k, const Problem *p, int64_t unit) {
    const int64_t runs = (p->queries + p->run - 1) / p->run;
    const int64_t b = unit / (p->heads * runs), m = unit / runs % p->heads, begin = unit % runs * p->run;
    const int64_t end = begin + p->run < p->queries ? begin + p->run : p->queries;
    const REAL *base = p->table + b * p->image + m * p->head;
    for (int64_t q = begin; q < end; q += k->queries) {
        const int64_t n = q + k->queries < end ? k->queries : end - q;
        collect(k, p, b, m, q, n);
        locate(k, n * k->each);
        for (int64_t i = 0; i < n; i++) {
            REAL *out = p->output + ((b * p->queries + q + i) * p->heads + m) * p->channels;
            int64_t c = 0;
            for (; c + 4 * LANES <= p->channels; c += 4 * LANES) gather(k, base + c, p->row, i * k->each, out + c, 4);
            for (; c + 2 * LANES <= p->channels; c += 2 * LANES) gather(k, base + c, p->row, i * k->each, out + c, 2);
            for (; c < p->channels; c += LANES) gather(k, base + c, p->row, i * k->each, out + c, 1);
        }
    }
}

static void backward(Block *k, const Problem *p, int64_t unit) {
    const int64_t b = unit / p->heads, m = unit % p->heads;
    const REAL *base = p->table + b * p->image + m * p->head;
    REAL *grads = p->grad_table + b * p->image + m * p->head;
    for (int64_t s = 0; s < p->length; s++) memset(grads + s * p->row, 0, sizeof(REAL) * (size_t)p->channels);
    for (int64_t q = 0; q < p->queries; q += k->queries) {
        const int64_t n = q + k->queries < p->queries ? k->queries : p->queries - q;
        collect(k, p, b, m, q, n);
        locate(k, n * k->each);
        for (int c = 0; c < 4; c++) memset(k->dots[c], 0, sizeof(REAL) * (size_t)(n * k->each));
        for (int64_t i = 0; i < n; i++) {
            const REAL *grad = p->grad_output + ((b * p->queries + q + i) * p->heads + m) * p->channels;
            const REAL *later = grad + AHEAD * p->heads * p->channels; /* may lie behind the end: never read */
            const int64_t from = i * k->each;
            int64_t c = 0;
            for (; c < p->channels; c += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(later + c);
            for (c = 0; c + 4 * LANES <= p->channels; c += 4 * LANES)
                scatter(k, base + c, grads + c, p->row, from, grad + c, 4);
            for (; c + 2 * LANES <= p->channels; c += 2 * LANES)
                scatter(k, base + c, grads + c, p->row, from, grad + c, 2);
            for (; c < p->channels; c += LANES) scatter(k, base + c, grads + c, p->row, from, grad + c, 1);
        }
        differentiate(k, n * k->each);
        hand_out(k, p, b, m, q, n);
    }
}

static void *work(void *argument) {
    Job *job = argument;
    Block block;
    if (!open_block(&block, job->problem)) return NULL;
    for (int64_t unit; (unit = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->units;)
        (job->backward ? backward : forward)(&block, job->problem, unit);
    free(block.memory);
    return NULL;
}

static void part(void *job) { work(job); }

/* GOMP_parallel of the OpenMP runtime that PyTorch itself uses, or NULL. */
typedef void (*Team)(void (*)(void *), void *, unsigned, unsigned);

/* Ask for large pages under what is written for the first time: faulting in small ones can cost more than the sums. */
static void prepare(void *memory, int64_t reals) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 65536, begin = ((uintptr_t)memory + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)memory + sizeof(REAL) * (uintptr_t)reals) & ~(page - 1);
    if (memory && end > begin && end - begin >= 4 << 20) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)reals;
#endif
}

/* Returns 0, or 1 when memory ran out. */
int ms_deform_attn(const Problem *problem, int is_backward, int threads, Team team) {
    const int64_t runs = is_backward ? 1 : (problem->queries + problem->run - 1) / problem->run;
    const int64_t bags = problem->batch * problem->queries * problem->heads;
    prepare(problem->output, bags * problem->channels);
    prepare(problem->grad_table, problem->batch * problem->length * problem->heads * problem->channels);
    Job job = {problem, problem->batch * problem->heads * runs, 0, is_backward};
    if (threads > job.units) threads = (int)job.units;
    if (threads <= 1) {
        work(&job);
    } else if (team) {
        team(part, &job, (unsigned)threads, 0);
    } else {
        pthread_t *others = malloc(sizeof(pthread_t) * (size_t)threads);
        int started = 0;
        while (others && started < threads - 1 && !pthread_create(&others[started], NULL, work, &job)) started++;
        work(&job);
        while (started) pthread_join(others[--started], NULL);
        free(others);
    }
    return job.next < job.units;
}
