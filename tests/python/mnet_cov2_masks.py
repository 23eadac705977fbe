#!/usr/bin/env python3
"""Boxes, scores and mask scores of mnet_cov2 from ONNX Runtime and the published post-processing, for
crates/faces/tests/it/attributes.rs.

    mnet_cov2_masks.py DATA        # the folder with models/ and golden/letterbox/

Source of the post-processing: retinaface_cov.py of deepinsight/insightface (RetinaFaceAntiCov), whose mask score is the
third of the three classes of the "type" output. Needs: pip install onnxruntime numpy pillow
"""
import pathlib
import sys

import numpy as np
import onnxruntime
from PIL import Image

LEVELS = [(32, (32, 16)), (16, (8, 4)), (8, (2, 1))]


def faces(session, path):
    picture = np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1)[None]
    names = [o.name for o in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {session.get_inputs()[0].name: picture})))
    found = []
    for stride, scales in LEVELS:
        score, deltas, kinds = (next(v[0] for n, v in outputs.items() if what in n and n.endswith(f"stride{stride}"))
                                for what in ("cls_prob", "bbox_pred", "type_prob"))
        for anchor, scale in enumerate(scales):
            side = 16 * scale
            for row, column in zip(*np.where(score[2 + anchor] >= 0.6)):
                dx, dy, dw, dh = deltas[4 * anchor:4 * anchor + 4, row, column]
                x, y = column * stride + 7.5 + dx * side, row * stride + 7.5 + dy * side
                w, h = (np.exp(dw) * side - 1) / 2, (np.exp(dh) * side - 1) / 2
                found.append((score[2 + anchor, row, column], x - w, y - h, x + w, y + h, kinds[4 + anchor, row, column]))
    kept = []
    for face in sorted(found, reverse=True):
        if all(iou(face[1:5], other[1:5]) <= 0.4 for other in kept):
            kept.append(face)
    return kept


def iou(a, b):
    area = lambda r: (r[2] - r[0] + 1) * (r[3] - r[1] + 1)
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    both = max(w, 0) * max(h, 0)
    return both / (area(a) + area(b) - both)


def main():
    data = pathlib.Path(sys.argv[1])
    session = onnxruntime.InferenceSession(str(data / "models/onnx/mnet_cov2/mnet_cov2.onnx"), providers=["CPUExecutionProvider"])
    for stem in ("mask", "t1", "TH1", "Stallone"):
        for score, *box, mask in faces(session, data / f"golden/letterbox/{stem}.png"):
            numbers = ", ".join(f"{v:.2f}" for v in box)
            print(f'    ("{stem}", [{numbers}], {score:.4f}, {mask:.4f}),')


if __name__ == "__main__":
    main()
