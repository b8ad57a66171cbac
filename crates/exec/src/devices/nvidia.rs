//! GPUs of NVIDIA.
//!
//! By NVML, the library that comes with the driver and that `nvidia-smi` asks; it is loaded when it is there, so that the same
//! program runs where it is not. Source: NVIDIA, NVML API reference (`nvmlDeviceGetTotalEnergyConsumption` counts millijoules
//! since the driver was loaded, Volta and later; powers are in milliwatts).

use std::ffi::OsStr;
use std::path::Path;

use dh_units::{Bytes, Joules, Watts, real};
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

use super::{Device, Opened, Reading, Source};

/// What drivers install; the name without a number comes only with development files.
const LIBRARY: &str = "libnvidia-ml.so.1";

#[derive(Debug)]
struct Nvidia(Nvml);

pub(super) fn open(root: &Path) -> Opened {
    let driver = root.join("proc/driver/nvidia/version").exists() || root.join("dev/nvidiactl").exists();
    // Under another root there is no library of that machine to ask.
    if root != Path::new("/") {
        return Ok(None);
    }
    match Nvml::builder().lib_path(OsStr::new(LIBRARY)).init() {
        Ok(nvml) => Ok(Some(Box::new(Nvidia(nvml)))),
        Err(error) if driver => Err(format!(
            "the driver is loaded, but {LIBRARY} does not answer ({error}); install the driver's `libnvidia-ml1` or compute utilities, of the same version as the driver"
        )),
        Err(_) => Ok(None),
    }
}

impl Source for Nvidia {
    fn devices(&self) -> Result<Vec<Device>, String> {
        let said = |error: nvml_wrapper::error::NvmlError| format!("NVML does not list its devices: {error}");
        let count = self.0.device_count().map_err(said)?;
        let mut found = Vec::new();
        for index in 0..count {
            let device = self.0.device_by_index(index).map_err(said)?;
            found.push(Device {
                kind: "nvidia",
                index,
                id: device.uuid().map_err(said)?,
                name: device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()),
                memory: device.memory_info().ok().map(|memory| Bytes(memory.total)),
                limit: device.enforced_power_limit().ok().map(milliwatts),
                // 1 is `NVML_DEVICE_MIG_ENABLE`.
                sliced: device.mig_mode().is_ok_and(|mode| mode.current == 1),
            });
        }
        Ok(found)
    }

    fn read(&self, device: &Device) -> Reading {
        let Ok(device) = self.0.device_by_uuid(device.id.as_str()) else { return Reading::default() };
        Reading {
            energy: device.total_energy_consumption().ok().map(|millijoules| Joules(real(millijoules) / 1e3)),
            power: device.power_usage().ok().map(milliwatts),
            used: device.memory_info().ok().map(|memory| Bytes(memory.used)),
            busy: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            temperature: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        }
    }
}

fn milliwatts(value: u32) -> Watts {
    Watts(f64::from(value) / 1e3)
}
