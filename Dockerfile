# docker build --tag stackzoo . && docker run --name demo stackzoo && docker cp demo:/home/zoo/runs .
FROM python:3.12-slim

COPY . /tmp/source
RUN pip install --no-cache-dir /tmp/source && rm -rf /tmp/source

RUN useradd --create-home zoo
USER zoo
WORKDIR /home/zoo
CMD ["zoo", "demo"]
