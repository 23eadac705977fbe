#!/usr/bin/env python3
"""What users of InsightFace-REST run against it: its synchronous and asynchronous clients, JSON and MessagePack, as its README describes
them. Posts exactly the bodies they post and reads the answers the way they do.

    client.py http://localhost:18080 DIRECTORY_WITH_PICTURES [PATH_BELOW_ROOT_IMAGES_DIR]
"""
import asyncio
import base64
import json
import sys
from pathlib import Path

import aiohttp
import msgpack
import requests


def body(data, mode="data", **options):
    images = dict(data=data) if mode == "data" else dict(urls=data)
    request = dict(
        images=images, threshold=0.6, extract_embedding=True, return_face_data=False, return_landmarks=False, embed_only=False,
        limit_faces=0, min_face_size=0, use_rotation=False, msgpack=False, verbose_timings=True)
    request.update(options)
    return request


class Client:
    """The synchronous client."""

    def __init__(self, server):
        self.server = server
        self.session = requests.Session()

    def info(self):
        return self.session.get(f"{self.server}/info", timeout=30).json()

    def extract(self, data, mode="data", use_msgpack=False, **options):
        request = body(data, mode, msgpack=use_msgpack, **options)
        if use_msgpack:
            headers = {"content-type": "application/msgpack", "accept": "application/x-msgpack"}
            answer = self.session.post(f"{self.server}/extract", data=msgpack.dumps(request), headers=headers, timeout=120)
            assert answer.headers["content-type"].startswith("application/x-msgpack"), answer.headers
            content = msgpack.loads(answer.content)
        else:
            answer = self.session.post(f"{self.server}/extract", json=request, timeout=120)
            content = answer.json()
        assert answer.status_code == 200, content
        return content


class AsyncClient:
    """The asynchronous client."""

    def __init__(self, server, session):
        self.server, self.session = server, session

    async def extract(self, data, use_msgpack=False, **options):
        request = body(data, msgpack=use_msgpack, **options)
        if use_msgpack:
            headers = {"Content-Type": "application/msgpack", "Accept": "application/x-msgpack"}
            async with self.session.post(f"{self.server}/extract", data=msgpack.packb(request, use_bin_type=True), headers=headers) as answer:
                return msgpack.loads(await answer.read())
        async with self.session.post(f"{self.server}/extract", data=json.dumps(request), headers={"Content-Type": "application/json"}) as answer:
            return await answer.json()


def to_base64(path):
    return base64.b64encode(Path(path).read_bytes()).decode("ascii")


def check_face(face, landmarks=False):
    left, top, right, bottom = face["bbox"]
    assert all(isinstance(v, int) for v in face["bbox"]) and left < right and top < bottom
    assert 0.6 <= face["prob"] <= 1 and len(face["vec"]) == 512 and face["norm"] > 0
    assert abs(sum(v * v for v in face["vec"]) - 1) < 1e-3
    assert (face.get("landmarks") is not None) == landmarks
    if landmarks:
        assert len(face["landmarks"]) == 5 and all(len(point) == 2 for point in face["landmarks"])


def synchronous(server, picture, path_below_root):
    client = Client(server)
    info = client.info()
    assert info["models"]["inference_backend"] == "onnx" and info["models"]["det_name"], info
    answer = client.extract([to_base64(picture)])
    assert set(answer["took"]) == {"total_ms", "read_imgs_ms", "embed_all_ms"}, answer["took"]
    [image] = answer["data"]
    assert image["status"] == "ok" and image["faces"]
    check_face(image["faces"][0])
    vector = image["faces"][0]["vec"]

    # Bytes in a MessagePack body, as the client sends files it read itself.
    for data in ([picture.read_bytes()], [to_base64(picture)]):
        packed = client.extract(data, use_msgpack=True, return_landmarks=True, return_face_data=True)
        face = packed["data"][0]["faces"][0]
        check_face(face, landmarks=True)
        assert base64.b64decode(face["facedata"])[:2] == b"\xff\xd8"
        assert sum(a * b for a, b in zip(vector, face["vec"])) > 0.9999
    # A crop can go back in as one.
    crop = client.extract([to_base64(picture)], return_face_data=True)["data"][0]["faces"][0]["facedata"]
    assert base64.b64decode(crop)[:2] == b"\xff\xd8"
    again = client.extract([crop], embed_only=True)["data"][0]["faces"][0]
    assert sum(a * b for a, b in zip(vector, again["vec"])) > 0.98 and again["bbox"] == [0, 0, 112, 112]

    mixed = client.extract([to_base64(picture), base64.b64encode(b"no picture").decode(), to_base64(picture)])["data"]
    assert [image["status"] for image in mixed] == ["ok", "failed", "ok"]
    assert "\n" not in mixed[1]["traceback"] and mixed[1]["faces"] == []

    assert client.extract([to_base64(picture)], extract_embedding=False)["data"][0]["faces"][0].get("vec") is None
    if path_below_root:
        [image] = client.extract([path_below_root], mode="paths")["data"]
        assert image["status"] == "ok" and image["faces"], image
        [image] = client.extract(["../../etc/passwd"], mode="paths")["data"]
        assert image["status"] == "failed", image
    return vector


async def asynchronous(server, picture, vector):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        client = AsyncClient(server, session)
        jobs = [client.extract([to_base64(picture)]) for _ in range(8)]
        jobs += [client.extract([picture.read_bytes()], use_msgpack=True) for _ in range(8)]
        for answer in await asyncio.gather(*jobs):
            face = answer["data"][0]["faces"][0]
            check_face(face)
            assert sum(a * b for a, b in zip(vector, face["vec"])) > 0.9999


def main():
    server, pictures, *path = sys.argv[1:]
    picture = Path(pictures) / "astronaut.jpg"
    vector = synchronous(server, picture, path[0] if path else None)
    asyncio.run(asynchronous(server, picture, vector))
    print("clients: ok")


if __name__ == "__main__":
    main()
