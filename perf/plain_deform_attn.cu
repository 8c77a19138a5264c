// The plain way, for comparison only: one thread per channel, float32, one fp32 atomicAdd per gradient and channel.
// Arguments as in benchmark/ops/cuda; gradients must be zero before.

extern "C" __global__ void plain_forward(const float* value, const int* shapes, const float* locations,
                                         const float* weights, float* out, int batch, int pixels, int heads,
                                         int channels, int queries, int levels, int points) {
    const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (index >= (long long)batch * queries * heads * channels) return;
    const int c = index % channels, h = index / channels % heads;
    const long long row = index / channels, image = row / heads / queries;
    const int stride = heads * channels;
    const float* source = value + image * pixels * stride + h * channels + c;
    float sum = 0;
    long long at = row * levels * points;
    for (int level = 0; level < levels; ++level) {
        const int height = shapes[2 * level], width = shapes[2 * level + 1];
        for (int p = 0; p < points; ++p, ++at) {
            const float x = locations[2 * at] * width - 0.5f, y = locations[2 * at + 1] * height - 0.5f;
            if (!(x > -1 && y > -1 && x < width && y < height)) continue;
            const int x0 = floorf(x), y0 = floorf(y);
            const float fx = x - x0, fy = y - y0;
            for (int j = 0; j < 2; ++j)
                for (int i = 0; i < 2; ++i)
                    if (x0 + i >= 0 && x0 + i < width && y0 + j >= 0 && y0 + j < height)
                        sum += weights[at] * (i ? fx : 1 - fx) * (j ? fy : 1 - fy) *
                               source[((y0 + j) * width + x0 + i) * stride];
        }
        source += (long long)height * width * stride;
    }
    out[index] = sum;
}

extern "C" __global__ void plain_backward(const float* grad_output, const float* value, const int* shapes,
                                          const float* locations, const float* weights, float* grad_value,
                                          float* grad_locations, float* grad_weights, int batch, int pixels, int heads,
                                          int channels, int queries, int levels, int points) {
    const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (index >= (long long)batch * queries * heads * channels) return;
    const int c = index % channels, h = index / channels % heads;
    const long long row = index / channels, image = row / heads / queries;
    const int stride = heads * channels;
    long long base = image * pixels * stride + h * channels + c;
    const float gradient = grad_output[index];
    long long at = row * levels * points;
    for (int level = 0; level < levels; ++level) {
        const int height = shapes[2 * level], width = shapes[2 * level + 1];
        for (int p = 0; p < points; ++p, ++at) {
            const float x = locations[2 * at] * width - 0.5f, y = locations[2 * at + 1] * height - 0.5f;
            if (!(x > -1 && y > -1 && x < width && y < height)) continue;
            const int x0 = floorf(x), y0 = floorf(y);
            const float fx = x - x0, fy = y - y0, weight = weights[at];
            float of_x = 0, of_y = 0, of_weight = 0;
            for (int j = 0; j < 2; ++j)
                for (int i = 0; i < 2; ++i)
                    if (x0 + i >= 0 && x0 + i < width && y0 + j >= 0 && y0 + j < height) {
                        const long long pixel = base + (long long)((y0 + j) * width + x0 + i) * stride;
                        const float across = i ? fx : 1 - fx, along = j ? fy : 1 - fy, product = gradient * value[pixel];
                        atomicAdd(grad_value + pixel, weight * across * along * gradient);
                        of_weight += across * along * product;
                        of_x += (i ? along : -along) * product;
                        of_y += (j ? across : -across) * product;
                    }
            atomicAdd(grad_weights + at, of_weight);
            atomicAdd(grad_locations + 2 * at, weight * width * of_x);
            atomicAdd(grad_locations + 2 * at + 1, weight * height * of_y);
        }
        base += (long long)height * width * stride;
    }
}
