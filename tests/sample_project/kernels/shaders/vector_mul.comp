#version 450
// out[i] = a[i] * b[i]

layout(local_size_x = 64) in;

layout(std430, binding = 0) readonly buffer A { float a[]; };
layout(std430, binding = 1) readonly buffer B { float b[]; };
layout(std430, binding = 2) writeonly buffer Out { float result[]; };

layout(push_constant) uniform Push { uint count; } push;

void main() {
  // The grid is rounded up to whole groups: the last group reaches past the end.
  uint i = gl_GlobalInvocationID.x;
  if (i < push.count) {
    result[i] = a[i] * b[i];
  }
}
