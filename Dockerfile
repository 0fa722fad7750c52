# NSL as a Hugging Face Space (sdk: docker): docs/space.md.
FROM python:3.11-slim

# The id that Spaces run as.
RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/app

# Every package in the version that was tested, and from whichever server with the bytes that were. torch is the build
# without CUDA, which brings gigabytes; the hashes are of Linux on x86-64, which Spaces run on.
COPY requirements.lock ./
RUN pip install --no-cache-dir --root-user-action=ignore --require-hashes --only-binary :all: \
        --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.lock \
    && python -c "import torch; assert torch.version.cuda is None, 'not the CPU build of torch'"

USER 1000
# HF_HOME keeps its default, ~/.cache/huggingface: preload_from_hub puts weights there and nowhere else.
ENV HOME=/home/user \
    NUMBA_CACHE_DIR=/home/user/.cache/numba
RUN mkdir -p "$HOME/.cache/huggingface" "$NUMBA_CACHE_DIR"

COPY --chown=user LICENSE app.py ./
COPY --chown=user .streamlit .streamlit
COPY --chown=user weights/her2-breast weights/her2-breast
COPY --chown=user pages pages
COPY --chown=user nsl nsl
# Compiles now what the first visitor after each start would wait 5 s for, and shows that the image works.
RUN python -c "from nsl.web.runs import rehearse; rehearse()"

# For two processors and 16 GB. A Space's variables of these names win (docs/space.md).
ENV NSL_MAX_UPLOAD_MB=500 \
    NSL_MAX_PIXELS=10000000000 \
    NSL_MAX_CONCURRENT_RUNS=2 \
    NSL_MAX_RESULTS_MB=6000

EXPOSE 8501
# Without curl, which slim lacks, and without a proxy that the environment may name.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", \
         "import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=4)", \
         "http://127.0.0.1:8501/_stcore/health"]

# A Space is an iframe in a page of another site, where browsers keep back the cookie that XSRF protection compares, so
# that every upload would end in 403. Only here is it off. exec: the signal to stop must reach Streamlit, not the shell.
CMD ["sh", "-c", \
     "exec streamlit run app.py \"$@\" ${NSL_MAX_UPLOAD_MB:+--server.maxUploadSize=\"$NSL_MAX_UPLOAD_MB\"}", \
     "nsl", \
     "--server.address=0.0.0.0", \
     "--server.port=8501", \
     "--server.headless=true", \
     "--server.enableXsrfProtection=false"]
