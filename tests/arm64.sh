#!/bin/bash
# usage: arm64.sh FOLDER [pytest's arguments]
# Builds the package for arm64 and runs its tests in emulation.  FOLDER gets a Python from Debian, which needs no
# root, with NumPy and pytest beside it, and keeps them.  cmake, ninja, cython and cython-cmake must be on the path.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1" && cd "$1" && shift
root=$PWD/root site=$PWD/site apt=$PWD/apt

if [ ! -e python ]; then
    mkdir -p "$apt"/{lists,archives}/partial "$root"/usr/{lib,bin}
    : >"$apt/status" # nothing is installed, so that apt fetches all that Python needs
    options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= -o Debug::NoLocking=true
             -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt")
    apt-get "${options[@]}" -qq update
    apt-get "${options[@]}" -qq --yes --no-install-recommends --download-only install python3 libpython3-dev libstdc++6
    ln -s usr/lib "$root/lib"
    for package in "$apt"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$root"
    done
    cat >python.new <<END
#!/bin/sh
export PYTHONHOME=$root/usr PYTHONPATH=$site\${PYTHONPATH:+:\$PYTHONPATH}
exec qemu-aarch64 -0 $PWD/python -L $root $root/usr/bin/python3 "\$@"
END
    chmod +x python.new && mv python.new python
fi

extras="import tomllib; extras = tomllib.load(open('$source/pyproject.toml', 'rb'))['project']['optional-dependencies']"
requirements=$(python -c "$extras; print(*[r for r in extras['test'] + extras['demo'] if 'instep' not in r], sep='\n')")
version=$(./python -c "import sys; print('%d.%d' % sys.version_info[:2])")
python -m pip install --quiet --upgrade --target "$site" --python-version "$version" --only-binary :all: \
    --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
    numpy -r <(echo "$requirements")

rm -rf build "$site"/instep*
cmake -S "$source" -B build -GNinja -DSKBUILD=2 -DSKBUILD_PROJECT_VERSION_FULL=0 -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
    -DCMAKE_C_FLAGS="-mno-outline-atomics -idirafter $root/usr/include" \
    -DCMAKE_MODULE_PATH="$(python -c 'import cython_cmake; print(cython_cmake.__path__[0])')/cmake" \
    -DPython_INCLUDE_DIR="$root/usr/include/python$version" -DPython_NumPy_INCLUDE_DIR="$site/numpy/_core/include"
cmake --build build
cp -r "$source/src/instep" "$site"
cmake --install build --prefix "$site"
shopt -s nullglob
for module in "$site"/instep/*.cpython-*.so; do
    mv "$module" "${module%%.cpython-*}.so" # some CMakes put this machine's processor into its name
done
./python -m instep info
cd "$source"
exec "$OLDPWD/python" -m pytest "$@"
