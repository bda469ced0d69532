// 2-D convolution and its two gradients for CPUs, called by XLA through its foreign function
// interface.
//
// Layouts are those of the network: images [N, H, W, C], kernels [KH, KW, C / groups, O]. Nothing
// is unrolled into patches. A block of output pixels is held in registers while the window that
// each of them sees is walked through, and a window is a few runs of contiguous memory in an image
// that was copied, with its margin of zeros, to a place that stays in the cache.
//
// The order of every sum depends on shapes alone and not on the number of threads.

#include "vectors.h"

namespace {

constexpr int64_t kTaskPixels = 512;         // output pixels of a task, if they fit
constexpr int64_t kTaskBytes = 256 << 10;    // of the copied part of the images
constexpr int64_t kSmallMap = 4;             // pixels of an axis
constexpr int64_t kPartialBytes = 4 << 20;   // of all partial kernel gradients
constexpr int64_t kPartials = 16;

// ---------------------------------------------------------------------------------------- geometry

// What one axis of an output sees of a source: output `out_start + m * out_step`, for m < count,
// the `taps` sources from `start + m * step` on. `skipped` taps before them see nothing but margin.
struct Axis {
  int64_t count, out_start, out_step, start, step, taps, skipped = 0;
};

// Cuts the axis of a small map into runs that see the same taps of a source of this size, and none
// of the margin: of 3x3 kernels on maps of 2x2 only 4 of 9 taps see anything.
std::vector<Axis> Segments(const Axis& axis, int64_t size) {
  if (axis.count > kSmallMap) return {axis};
  std::vector<Axis> segments;
  for (int64_t m = 0; m < axis.count; ++m) {
    const int64_t start = axis.start + m * axis.step, skipped = std::max<int64_t>(0, -start);
    const int64_t taps = std::max<int64_t>(0, std::min(axis.taps, size - start) - skipped);
    if (!segments.empty() && segments.back().taps == taps && segments.back().skipped == skipped) {
      ++segments.back().count;
    } else {
      segments.push_back({1, axis.out_start + m * axis.out_step, axis.out_step, start + skipped,
                          axis.step, taps, skipped});
    }
  }
  return segments;
}

// The margin of zeros before an axis.
int64_t Padding(int64_t taps) { return (taps - 1) / 2; }

Axis ForwardAxis(int64_t outputs, int64_t taps, int64_t stride) {
  return {outputs, 0, 1, -Padding(taps), stride, taps};
}

// The inputs of a convolution whose position plus the padding leaves `phase` divided by the stride;
// they were seen by the outputs that this axis sees, through the taps phase, phase + stride, ...
Axis BackwardAxis(int64_t inputs, int64_t taps, int64_t stride, int64_t phase) {
  const int64_t padding = Padding(taps);
  const int64_t own = phase < taps ? (taps - phase + stride - 1) / stride : 0;
  const int64_t first = ((phase - padding) % stride + stride) % stride;
  const int64_t count = first < inputs ? (inputs - first + stride - 1) / stride : 0;
  return {count, first, stride, (first + padding) / stride - own + 1, 1, own};
}

struct Shape {
  int64_t n, h, w, c;
};

// The windows of consecutive rows of output pixels, in a copy of the source or in the source
// itself.
template <typename T>
class Windows {
 public:
  Windows(const T* source, Shape shape, Axis rows, Axis columns)
      : source_(source), shape_(shape), rows_(rows), columns_(columns) {
    auto inside = [](const Axis& axis, int64_t size) {
      return axis.start >= 0 && axis.start + (axis.count - 1) * axis.step + axis.taps <= size;
    };
    in_place_ = inside(rows, shape.h) && inside(columns, shape.w);
    first_column_ = in_place_ ? 0 : columns.start;
    pitch_ = in_place_ ? shape.w : (columns.count - 1) * columns.step + columns.taps;
    const int64_t row_bytes = pitch_ * shape.c * sizeof(T) * rows.step;
    task_rows_ = std::max<int64_t>(1, kTaskPixels / std::max<int64_t>(1, columns.count));
    if (!in_place_) {
      task_rows_ = std::min(task_rows_, std::max<int64_t>(1, kTaskBytes / row_bytes));
    }
  }

  int64_t rows() const { return shape_.n * rows_.count; }
  int64_t tasks() const { return (rows() + task_rows_ - 1) / task_rows_; }
  int64_t pixels(int64_t task) const {
    return (std::min(rows(), (task + 1) * task_rows_) - task * task_rows_) * columns_.count;
  }
  int64_t first_pixel(int64_t task) const { return task * task_rows_ * columns_.count; }

  // Distance in elements of two vertical neighbours, and of two horizontal ones.
  int64_t down() const { return pitch_ * shape_.c; }
  int64_t right() const { return shape_.c; }

  // Where the window of each pixel of a task begins; valid until the next call in this thread.
  std::vector<const T*>& Of(int64_t task) const {
    static thread_local std::vector<const T*> starts;
    static thread_local std::vector<T> copy;
    starts.resize(pixels(task));
    const T** start = starts.data();
    const int64_t first = task * task_rows_, last = std::min(rows(), first + task_rows_);
    struct Part {
      int64_t image, row, count;
    };
    std::vector<Part> parts;
    int64_t copied = 0;
    for (int64_t row = first; row < last;) {
      const int64_t m = row % rows_.count, count = std::min(rows_.count - m, last - row);
      parts.push_back({row / rows_.count, m, count});
      copied += (count - 1) * rows_.step + rows_.taps;
      row += count;
    }
    if (!in_place_ && copy.size() < static_cast<size_t>(copied * down())) {
      copy.resize(copied * down());
    }
    T* free = copy.data();
    for (const Part& part : parts) {
      const T* image = source_ + part.image * shape_.h * shape_.w * shape_.c;
      const int64_t top = rows_.start + part.row * rows_.step;
      const T* corner = in_place_ ? image + top * down() : free;
      if (!in_place_) free = Copy(image, top, (part.count - 1) * rows_.step + rows_.taps, free);
      for (int64_t row = 0; row < part.count; ++row) {
        const T* line = corner + row * rows_.step * down();
        if (in_place_) line += columns_.start * right();
        for (int64_t column = 0; column < columns_.count; ++column) {
          *start++ = line + column * columns_.step * right();
        }
      }
    }
    return starts;
  }

 private:
  // Copies rows of an image with zeros where there is none; returns the end of the copy.
  T* Copy(const T* image, int64_t top, int64_t rows, T* to) const {
    const int64_t c = shape_.c, before = std::max<int64_t>(0, -first_column_);
    const int64_t from = std::max<int64_t>(0, first_column_);
    const int64_t columns = std::max<int64_t>(0, std::min(pitch_ - before, shape_.w - from));
    for (int64_t row = top; row < top + rows; ++row, to += down()) {
      if (row < 0 || row >= shape_.h) {
        std::fill_n(to, down(), T(0));
        continue;
      }
      std::fill_n(to, before * c, T(0));
      std::copy_n(image + (row * shape_.w + from) * c, columns * c, to + before * c);
      std::fill_n(to + (before + columns) * c, (pitch_ - before - columns) * c, T(0));
    }
    return to;
  }

  const T* source_;
  Shape shape_;
  Axis rows_, columns_;
  bool in_place_;
  int64_t first_column_, pitch_, task_rows_;
};

// ------------------------------------------------------------------------------------- correlation

// One tap or, where channels have no groups, all taps of a row, which lie one behind the other.
struct Tap {
  int64_t offset;  // in the source, from the beginning of a window
  int64_t row;     // of the panel of weights
};

// out[p][o] = sum over taps and d < depth of windows[p][offset + d] * panel[row + d][o]
template <typename T, int width, int pixels>
inline void Tile(const T* const* windows, int64_t from, const std::vector<Tap>& taps, int64_t depth,
                 const T* panel, T* const* out, int64_t to) {
  constexpr int lanes = width > kWidth<T> ? kWidth<T> : width, vectors = width / lanes;
  using V = Vector<T, lanes>;
  V sums[pixels][vectors] = {};
  for (const Tap& tap : taps) {
    const T* seen[pixels];
    const T* weights = panel + tap.row * width;
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) seen[p] = windows[p] + from + tap.offset;
    auto steps = [&](int64_t d, auto count) {
      V weight[count.value][vectors];
#pragma GCC unroll 2
      for (int s = 0; s < count.value; ++s) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          weight[s][v] = *reinterpret_cast<const V*>(weights + s * width + v * lanes);
        }
      }
#pragma GCC unroll 16
      for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 2
        for (int s = 0; s < count.value; ++s) {
#pragma GCC unroll 2
          for (int v = 0; v < vectors; ++v) sums[p][v] += seen[p][d + s] * weight[s][v];
        }
      }
      weights += count.value * width;
    };
    constexpr int at_once = vectors == 1 ? 2 : 1;  // what fits the registers
    int64_t d = 0;
    for (; d + at_once <= depth; d += at_once) steps(d, Constant<at_once>());
    for (; d < depth; ++d) steps(d, Constant<1>());
  }
  for (int p = 0; p < pixels; ++p) {
    for (int v = 0; v < vectors; ++v) *reinterpret_cast<V*>(out[p] + to + v * lanes) = sums[p][v];
  }
}

// One group's output channels `first` and on, as many as fit two vectors.
struct Panel {
  int64_t group, first, width, start;
};

// What a correlation multiplies with: for every group and block of output channels a panel with a
// row for every tap and input channel, so that it is read one row after the other.
template <typename T>
struct Weights {
  std::unique_ptr<T[]> values;
  std::vector<Panel> panels;
  int64_t column_taps, groups, inputs, outputs;  // channels are those of a group
};

// Writes zeros to the pixels of an output that see nothing.
template <typename T>
void Clear(const Axis& rows, const Axis& columns, T* target, Shape shape) {
  for (int64_t n = 0; n < shape.n; ++n) {
    for (int64_t m = 0; m < rows.count; ++m) {
      for (int64_t k = 0; k < columns.count; ++k) {
        const int64_t h = rows.out_start + m * rows.out_step;
        const int64_t w = columns.out_start + k * columns.out_step;
        std::fill_n(target + ((n * shape.h + h) * shape.w + w) * shape.c, shape.c, T(0));
      }
    }
  }
}

template <typename T>
void Correlate(ffi::ThreadPool& pool, const T* source, Shape source_shape,
               const Weights<T>& weights, const Axis& rows, const Axis& columns, T* target,
               Shape shape) {
  if (!rows.taps || !columns.taps) return Clear(rows, columns, target, shape);
  const Windows<T> windows(source, source_shape, rows, columns);
  if (!windows.tasks()) return;  // no images
  const bool runs = weights.groups == 1;
  const int64_t depth = runs ? columns.taps * weights.inputs : weights.inputs;
  std::vector<Tap> taps;
  for (int64_t row = 0; row < rows.taps; ++row) {
    for (int64_t column = 0; column < (runs ? 1 : columns.taps); ++column) {
      const int64_t tap =
          (row + rows.skipped) * weights.column_taps + column + columns.skipped;
      taps.push_back({row * windows.down() + column * windows.right(), tap * weights.inputs});
    }
  }
  // Small maps are too few tasks; their panels are shared out, too.
  const int64_t panels = weights.panels.size();
  const int64_t shares = std::clamp<int64_t>(kTasks / windows.tasks(), 1, panels);
  ParallelFor(pool, windows.tasks() * shares, [&](int64_t number) {
    const int64_t task = number / shares, share = number % shares;
    auto& seen = windows.Of(task);
    const int64_t count = seen.size(), whole = (count + kPixels - 1) / kPixels * kPixels;
    static thread_local std::vector<T*> out;
    out.resize(whole);
    int64_t i = 0;
    for (int64_t row = windows.first_pixel(task) / columns.count; i < count; ++row) {
      const int64_t h = rows.out_start + row % rows.count * rows.out_step;
      T* line = target + ((row / rows.count * shape.h + h) * shape.w + columns.out_start) * shape.c;
      for (int64_t column = 0; column < columns.count; ++column) {
        out[i++] = line + column * columns.out_step * shape.c;
      }
    }
    // The last block is filled up with a pixel that is written several times.
    std::fill(out.begin() + count, out.end(), out[count - 1]);
    seen.resize(whole, seen[count - 1]);
    for (int64_t i = share * panels / shares; i < (share + 1) * panels / shares; ++i) {
      const Panel& panel = weights.panels[i];
      const int64_t from = panel.group * weights.inputs;
      const int64_t to = panel.group * weights.outputs + panel.first;
      WithWidth<T>(panel.width, [&](auto width) {
        for (int64_t block = 0; block < whole; block += kPixels) {
          Tile<T, width.value, kPixels>(seen.data() + block, from, taps, depth,
                                        weights.values.get() + panel.start, out.data() + block,
                                        to);
        }
      });
    }
  });
}

// Fills the panels. tap(group, row, column) is where the weights of a tap begin, and the steps lead
// to those of the next channels.
template <typename T, typename F>
Weights<T> Pack(ffi::ThreadPool& pool, int64_t groups, int64_t row_taps, int64_t column_taps,
                int64_t inputs, int64_t outputs, int64_t input_step, int64_t output_step, F tap) {
  Weights<T> weights{nullptr, {}, column_taps, groups, inputs, outputs};
  const int64_t taps = row_taps * column_taps;
  weights.values.reset(new T[groups * taps * inputs * outputs]);
  int64_t start = 0;
  for (int64_t group = 0; group < groups; ++group) {
    ForEachBlock<T>(outputs, [&](auto width, int64_t first) {
      weights.panels.push_back({group, first, width.value, start});
      start += taps * inputs * width.value;
    });
  }
  ParallelFor(pool, weights.panels.size(), [&](int64_t number) {
    const Panel& panel = weights.panels[number];
    T* to = weights.values.get() + panel.start;
    for (int64_t row = 0; row < row_taps; ++row) {
      for (int64_t column = 0; column < column_taps; ++column) {
        const T* from = tap(panel.group, row, column) + panel.first * output_step;
        for (int64_t input = 0; input < inputs; ++input, from += input_step) {
          for (int64_t i = 0; i < panel.width; ++i) *to++ = from[i * output_step];
        }
      }
    }
  });
  return weights;
}

struct Problem {
  Shape x, y;
  int64_t kh, kw, stride, groups;

  Axis ForwardRows() const { return ForwardAxis(y.h, kh, stride); }
  Axis ForwardColumns() const { return ForwardAxis(y.w, kw, stride); }
};

template <typename T>
void Forward(ffi::ThreadPool& pool, const Problem& p, const T* x, const T* kernel, T* y) {
  const int64_t inputs = p.x.c / p.groups, outputs = p.y.c / p.groups;
  const auto weights = Pack<T>(
      pool, p.groups, p.kh, p.kw, inputs, outputs, p.y.c, 1,
      [&](int64_t group, int64_t row, int64_t column) {
        return kernel + (row * p.kw + column) * inputs * p.y.c + group * outputs;
      });
  for (const Axis& rows : Segments(p.ForwardRows(), p.x.h)) {
    for (const Axis& columns : Segments(p.ForwardColumns(), p.x.w)) {
      Correlate(pool, x, p.x, weights, rows, columns, y, p.y);
    }
  }
}

// The gradient with respect to x: for every phase of the stride a correlation of its own.
template <typename T>
void InputGradient(ffi::ThreadPool& pool, const Problem& p, const T* dy, const T* kernel, T* dx) {
  const int64_t inputs = p.x.c / p.groups, outputs = p.y.c / p.groups;
  for (int64_t a = 0; a < p.stride; ++a) {
    for (int64_t b = 0; b < p.stride; ++b) {
      const Axis rows = BackwardAxis(p.x.h, p.kh, p.stride, a);
      const Axis columns = BackwardAxis(p.x.w, p.kw, p.stride, b);
      if (!rows.count || !columns.count) continue;
      const auto weights = Pack<T>(
          pool, p.groups, rows.taps, columns.taps, outputs, inputs, 1, p.y.c,
          [&](int64_t group, int64_t row, int64_t column) {
            const int64_t kh = a + (rows.taps - 1 - row) * p.stride;
            const int64_t kw = b + (columns.taps - 1 - column) * p.stride;
            return kernel + (kh * p.kw + kw) * inputs * p.y.c + group * outputs;
          });
      for (const Axis& some_rows : Segments(rows, p.y.h)) {
        for (const Axis& some_columns : Segments(columns, p.y.w)) {
          Correlate(pool, dy, p.y, weights, some_rows, some_columns, dx, p.x);
        }
      }
    }
  }
}

// --------------------------------------------------------------------------------- kernel gradient

// sums[d][o] += sum over pixels of windows[pixel][d] * dy[pixel][o], for d < depth and o < width
// (Inlined, its sums do not all stay in registers.)
template <typename T, int width, int depth>
__attribute__((noinline)) void Outer(const T* const* windows, int64_t count, int64_t offset,
                                     const T* dy, int64_t dy_step, T* sums, int64_t sums_step) {
  constexpr int lanes = width > kWidth<T> ? kWidth<T> : width, vectors = width / lanes;
  using V = Vector<T, lanes>;
  V total[depth][vectors] = {};
  for (int64_t i = 0; i < count; ++i, dy += dy_step) {
    const T* seen = windows[i] + offset;
    V gradient[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) gradient[v] = *reinterpret_cast<const V*>(dy + v * lanes);
#pragma GCC unroll 16
    for (int d = 0; d < depth; ++d) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) total[d][v] += seen[d] * gradient[v];
    }
  }
  for (int d = 0; d < depth; ++d) {
    for (int v = 0; v < vectors; ++v) {
      *reinterpret_cast<V*>(sums + d * sums_step + v * lanes) += total[d][v];
    }
  }
}

template <typename T>
void KernelGradient(ffi::ThreadPool& pool, const Problem& p, const T* x, const T* dy, T* dkernel) {
  const Axis rows = p.ForwardRows(), columns = p.ForwardColumns();
  const Windows<T> windows(x, p.x, rows, columns);
  const int64_t inputs = p.x.c / p.groups, outputs = p.y.c / p.groups;
  const bool runs = p.groups == 1;
  const int64_t depth = runs ? p.kw * inputs : inputs, taps = runs ? p.kh : p.kh * p.kw;
  const int64_t size = p.kh * p.kw * inputs * p.y.c;
  if (!windows.tasks()) return static_cast<void>(std::fill_n(dkernel, size, T(0)));  // no images
  // Small gradients are summed in parts over the pixels, large ones also computed in slices of d.
  const int64_t fitting = kPartialBytes / (size * static_cast<int64_t>(sizeof(T)));
  const int64_t parts = std::clamp<int64_t>(fitting, 1, std::min(kPartials, windows.tasks()));
  constexpr int64_t kBlock = kPixels;
  const int64_t blocks = (depth + kBlock - 1) / kBlock;
  const int64_t slices = std::clamp<int64_t>(kTasks / parts, 1, taps * blocks);
  const std::unique_ptr<T[]> partials(parts > 1 ? new T[parts * size] : nullptr);
  T* const sums = parts > 1 ? partials.get() : dkernel;
  ParallelFor(pool, parts * slices, [&](int64_t number) {
    const int64_t part = number / slices, slice = number % slices;
    const int64_t begin = slice * taps * blocks / slices;
    const int64_t end = (slice + 1) * taps * blocks / slices;
    auto row = [&](int64_t block) { return block / blocks * depth + block % blocks * kBlock; };
    std::fill(sums + part * size + row(begin) * p.y.c, sums + part * size + row(end) * p.y.c, T(0));
    for (int64_t task = part * windows.tasks() / parts; task < (part + 1) * windows.tasks() / parts;
         ++task) {
      const auto& starts = windows.Of(task);
      const T* gradient = dy + windows.first_pixel(task) * p.y.c;
      for (int64_t group = 0; group < p.groups; ++group) {
        ForEachBlock<T>(outputs, [&](auto width, int64_t first) {
          const int64_t column = group * outputs + first;
          for (int64_t block = begin; block < end; ++block) {
            const int64_t tap = block / blocks;
            int64_t d = block % blocks * kBlock;
            const int64_t stop = std::min(depth, d + kBlock);
            const int64_t offset =
                (runs ? tap * windows.down()
                      : tap / p.kw * windows.down() + tap % p.kw * windows.right()) +
                group * inputs;
            auto take = [&](auto count) {
              for (; stop - d >= count.value; d += count.value) {
                Outer<T, width.value, count.value>(
                    starts.data(), starts.size(), offset + d, gradient + column, p.y.c,
                    sums + part * size + (tap * depth + d) * p.y.c + column, p.y.c);
              }
            };
            take(Constant<kPixels>());
            take(Constant<4>());
            take(Constant<1>());
          }
        });
      }
    }
  });
  if (parts == 1) return;
  constexpr int64_t kChunk = 4096;
  ParallelFor(pool, (size + kChunk - 1) / kChunk, [&](int64_t chunk) {
    for (int64_t i = chunk * kChunk; i < std::min(size, (chunk + 1) * kChunk); ++i) {
      T sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += sums[part * size + i];
      dkernel[i] = sum;
    }
  });
}

// ---------------------------------------------------------------------------------------- bindings

Shape ShapeOf(ffi::AnyBuffer::Dimensions d) { return {d[0], d[1], d[2], d[3]}; }

// Calls run(zero, problem), where zero has the type of the elements.
template <typename Run>
ffi::Error Call(ffi::AnyBuffer x, ffi::AnyBuffer kernel, ffi::AnyBuffer y, int64_t stride,
                int64_t groups, Run run) {
  const auto k = kernel.dimensions();
  const Problem p{ShapeOf(x.dimensions()), ShapeOf(y.dimensions()), k[0], k[1], stride, groups};
  return Dispatch(x.element_type(), [&](auto zero) { run(zero, p); });
}

ffi::Error ForwardCall(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel,
                       ffi::Result<ffi::AnyBuffer> y, int64_t stride, int64_t groups) {
  return Call(x, kernel, *y, stride, groups, [&](auto zero, const Problem& p) {
    using T = decltype(zero);
    Forward<T>(pool, p, x.typed_data<T>(), kernel.typed_data<T>(), y->typed_data<T>());
  });
}

ffi::Error InputGradientCall(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer kernel,
                             ffi::Result<ffi::AnyBuffer> dx, int64_t stride, int64_t groups) {
  return Call(*dx, kernel, dy, stride, groups, [&](auto zero, const Problem& p) {
    using T = decltype(zero);
    InputGradient<T>(pool, p, dy.typed_data<T>(), kernel.typed_data<T>(), dx->typed_data<T>());
  });
}

ffi::Error KernelGradientCall(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                              ffi::Result<ffi::AnyBuffer> dkernel, int64_t stride, int64_t groups) {
  return Call(x, *dkernel, dy, stride, groups, [&](auto zero, const Problem& p) {
    using T = decltype(zero);
    KernelGradient<T>(pool, p, x.typed_data<T>(), dy.typed_data<T>(), dkernel->typed_data<T>());
  });
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Ret<ffi::AnyBuffer>()
      .Attr<int64_t>("stride")
      .Attr<int64_t>("groups");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_conv_forward, ForwardCall, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_conv_input_gradient, InputGradientCall, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_conv_kernel_gradient, KernelGradientCall, Binding());
