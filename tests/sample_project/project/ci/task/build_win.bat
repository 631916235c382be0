rem Builds and installs the project into the active environment; started from the folder above the checkout.
rem It makes no wheel file: run `pip wheel --no-deps -w dist . -v` afterwards for one.
cd mlc-sample
rd /s /q build
mkdir build

rem config.cmake is appended to: a work folder that is kept has to delete it first.
echo set(USE_VULKAN ON) >> config.cmake

rem conda's link.exe (from m2-base) shadows the linker of MSVC.
if exist "%CONDA_PREFIX%\Library\usr\bin\link.exe" del /f /q "%CONDA_PREFIX%\Library\usr\bin\link.exe"

pip install . -v

if %errorlevel% neq 0 exit %errorlevel%
