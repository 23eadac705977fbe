#!/usr/bin/env python3
"""Sends the requests of the clients of InsightFace-REST: the synchronous and the asynchronous client of `ifr_clients`,
and the older client of its demo. The bodies have the same fields in the same order, the same defaults and headers, and
the answers are parsed in the same way.

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


def encoded(data):
    """Bytes as base64, texts unchanged, as the clients do for JSON."""
    return [base64.b64encode(item).decode("ascii") if isinstance(item, bytes) else item for item in data]


def body(data, mode, use_msgpack, threshold=0.6, extract_embedding=True, return_face_data=False, return_landmarks=False, embed_only=False,
         limit_faces=0):
    """The body that both clients send: always exactly these fields."""
    if mode == "data":
        images = dict(data=data if use_msgpack else encoded(data))
    else:
        images = dict(urls=data)
    return dict(
        images=images, threshold=threshold, extract_ga=False, extract_embedding=extract_embedding, return_face_data=return_face_data,
        return_landmarks=return_landmarks, embed_only=embed_only, limit_faces=limit_faces, msgpack=use_msgpack)


def decoded(content_type, content, use_msgpack, return_face_data):
    """The clients compare the whole header, and decode crops."""
    assert (content_type == "application/x-msgpack") == use_msgpack, content_type
    answer = msgpack.loads(content) if content_type == "application/x-msgpack" else json.loads(content)
    if return_face_data:
        for item in answer.get("data", []):
            for face in item.get("faces", []):
                if isinstance(face.get("facedata"), str):
                    face["facedata"] = base64.b64decode(face["facedata"])
    return answer


def show(info):
    """The fields of /info that the clients print must exist."""
    models = info["models"]
    return [models[name] for name in ("inference_backend", "det_name", "rec_name", "rec_batch_size", "det_batch_size", "max_size")]


MSGPACK = {"content-type": "application/msgpack", "accept": "application/x-msgpack"}


class Client:
    """The synchronous client."""

    def __init__(self, server):
        self.server = server
        self.session = requests.Session()

    def server_info(self):
        info = self.session.get(f"{self.server}/info").json()
        show(info)
        return info

    def extract(self, data, mode="paths", use_msgpack=True, **options):
        request = body(data, mode, use_msgpack, **options)
        if use_msgpack:
            answer = self.session.post(f"{self.server}/extract", data=msgpack.dumps(request), timeout=120, headers=MSGPACK)
        else:
            answer = self.session.post(f"{self.server}/extract", json=request, timeout=120)
        return decoded(answer.headers["content-type"], answer.content, use_msgpack, options.get("return_face_data"))


class AsyncClient:
    """The asynchronous client."""

    def __init__(self, server, session):
        self.server, self.session = server, session

    async def server_info(self):
        info = await (await self.session.get(f"{self.server}/info")).json()
        show(info)
        return info

    async def extract(self, data, mode="paths", use_msgpack=True, **options):
        request = body(data, mode, use_msgpack, **options)
        timeout = aiohttp.ClientTimeout(total=120)
        if use_msgpack:
            answer = await self.session.post(f"{self.server}/extract", data=msgpack.dumps(request), timeout=timeout, headers=MSGPACK)
        else:
            answer = await self.session.post(f"{self.server}/extract", json=request, timeout=timeout)
        content = await answer.read()
        return decoded(answer.headers["content-type"], content, use_msgpack, options.get("return_face_data"))


def older(server, data, mode, use_msgpack=True):
    """The client of the original's demo: JSON there, MessagePack back without a header that asks for it, and a field of
    an older API."""
    images = dict(data=data) if mode == "data" else dict(urls=data)
    request = dict(
        images=images, threshold=0.6, extract_ga=False, extract_embedding=True, return_face_data=False, embed_only=False, limit_faces=0,
        api_ver="2", msgpack=use_msgpack)
    answer = requests.post(f"{server}/extract", json=request, timeout=120)
    return decoded(answer.headers["content-type"], answer.content, use_msgpack, False)


def check_face(face, landmarks=False):
    left, top, right, bottom = face["bbox"]
    assert all(isinstance(v, int) for v in face["bbox"]) and left < right and top < bottom
    assert 0.6 <= face["prob"] <= 1 and len(face["vec"]) == 512 and face["norm"] > 0
    assert abs(sum(v * v for v in face["vec"]) - 1) < 1e-3
    assert (face.get("landmarks") is not None) == landmarks
    if landmarks:
        assert len(face["landmarks"]) == 5 and all(len(point) == 2 for point in face["landmarks"])


def same(a, b, least=0.9999):
    return sum(x * y for x, y in zip(a, b)) > least


def sources(picture, path_below_root):
    """All forms of a picture in a request: mode and list."""
    yield "data", [picture.read_bytes()]
    yield "data", [base64.b64encode(picture.read_bytes()).decode("ascii")]
    if path_below_root:
        yield "paths", [path_below_root]


def synchronous(server, picture, path_below_root):
    client = Client(server)
    info = client.server_info()
    assert info["models"]["inference_backend"] == "onnx" and info["models"]["det_name"], info
    vector = client.extract([picture.read_bytes()], mode="data")["data"][0]["faces"][0]["vec"]
    for mode, data in sources(picture, path_below_root):
        for use_msgpack in (True, False):
            answer = client.extract(data, mode=mode, use_msgpack=use_msgpack)
            assert set(answer["took"]) == {"total_ms"}, answer["took"]
            [image] = answer["data"]
            assert image["status"] == "ok", image
            [face] = image["faces"]
            check_face(face)
            assert same(vector, face["vec"])

            options = dict(return_landmarks=True, return_face_data=True, limit_faces=1)
            [face] = client.extract(data, mode=mode, use_msgpack=use_msgpack, **options)["data"][0]["faces"]
            check_face(face, landmarks=True)
            assert face["facedata"][:2] == b"\xff\xd8"
            # The returned crop is accepted as a crop.
            again = client.extract([face["facedata"]], mode="data", use_msgpack=use_msgpack, embed_only=True)
            again = again["data"][0]["faces"][0]
            assert same(vector, again["vec"], 0.98) and again["bbox"] == [0, 0, 112, 112]
            bare = client.extract(data, mode=mode, use_msgpack=use_msgpack, extract_embedding=False)["data"][0]["faces"][0]
            assert bare.get("vec") is None

        if all(isinstance(item, str) for item in data):
            [face] = older(server, data, mode)["data"][0]["faces"]
            check_face(face)
            assert same(vector, face["vec"])

    for use_msgpack in (True, False):
        mixed = client.extract([picture.read_bytes(), b"no picture", picture.read_bytes()], mode="data", use_msgpack=use_msgpack)["data"]
        assert [image["status"] for image in mixed] == ["ok", "failed", "ok"]
        assert "\n" not in mixed[1]["traceback"] and mixed[1]["faces"] == []
        [image] = client.extract(["../../etc/passwd"], use_msgpack=use_msgpack)["data"]
        assert image["status"] == "failed", image
    return vector


async def asynchronous(server, picture, path_below_root, vector):
    async with aiohttp.ClientSession() as session:
        client = AsyncClient(server, session)
        assert (await client.server_info())["models"]["det_name"]
        jobs = [
            client.extract(data, mode=mode, use_msgpack=use_msgpack)
            for mode, data in sources(picture, path_below_root) for use_msgpack in (True, False) for _ in range(4)
        ]
        for answer in await asyncio.gather(*jobs):
            face = answer["data"][0]["faces"][0]
            check_face(face)
            assert same(vector, face["vec"])
        answer = await client.extract([picture.read_bytes()], mode="data", return_landmarks=True, return_face_data=True)
        face = answer["data"][0]["faces"][0]
        check_face(face, landmarks=True)
        assert face["facedata"][:2] == b"\xff\xd8"


def main():
    server, pictures, *path = sys.argv[1:]
    picture = Path(pictures) / "astronaut.jpg"
    path = path[0] if path else None
    vector = synchronous(server, picture, path)
    asyncio.run(asynchronous(server, picture, path, vector))
    print("clients: ok")


if __name__ == "__main__":
    main()
