// A worker for the tests. The first message contains the options of `load`; each further message contains a picture to
// analyze.

import * as ifr from "/pkg/index.js";

let analyzer;
self.onmessage = async ({ data: { load, models, picture } }) => {
    try {
        if (load) {
            const build = await ifr.load(load);
            analyzer = ifr.FaceAnalyzer.create(...models);
            self.postMessage({ build, threads: ifr.threads, available: ifr.threadsAvailable() });
        } else {
            self.postMessage(analyzer.analyze(picture));
        }
    } catch (error) {
        self.postMessage({ error: String(error) });
    }
};
