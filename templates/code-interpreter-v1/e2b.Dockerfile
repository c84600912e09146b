# files/ comes from prepare. E2B's base image is here whatever the server has for
# it: by default the programs of its machine.
FROM e2bdev/base
USER root
COPY files/interpreter /opt/code-interpreter/interpreter
COPY files/node_modules /opt/code-interpreter/node_modules
COPY files/python /opt/code-interpreter/python
# Behind what users install themselves, which they may want newer. What is imported
# is compiled, once for all sandboxes.
RUN python3 -c 'import os, site; d = site.getsitepackages()[0]; os.makedirs(d, exist_ok=True); open(d + "/code-interpreter.pth", "w").write("/opt/code-interpreter/python\n")' && python3 -c 'import IPython, e2b_charts, pandas'
USER user
WORKDIR /home/user
ENV NODE_PATH=/opt/code-interpreter/node_modules
# As root, like E2B's, with the user's own packages.
CMD sudo HOME=/home/user NODE_PATH=$NODE_PATH /opt/code-interpreter/interpreter
